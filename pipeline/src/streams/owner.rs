//! Whose keys a namespace has: two installations on the same one would take each other's orders.

use redis::AsyncCommands;

use super::{Error, Redis};

impl Redis {
    /// The id of the installation that the namespace belongs to: that of the first one that asked, which may be this one.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn owner(&self, installation: &str) -> Result<String, Error> {
        let mut connection = self.connect().await?;
        let key = self.keys().installation();
        let owner: Option<String> = connection.get(&key).await?;
        if let Some(owner) = owner {
            return Ok(owner);
        }
        let _: bool = connection.set_nx(&key, installation).await?;
        Ok(connection.get::<_, Option<String>>(&key).await?.unwrap_or_else(|| installation.to_owned()))
    }
}
