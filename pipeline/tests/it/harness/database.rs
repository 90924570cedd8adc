//! A database for every test, copied from one that has been migrated.

use std::{path::Path, str::FromStr};

use pipeline::store::{Store, WorkerSettings};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, migrate::Migrator, postgres::PgConnectOptions,
};

/// The advisory lock under which the template is made. Any constant does; this one spells "tmpl".
const TEMPLATE_LOCK: i64 = 0x74_6d_70_6c;

/// Creates a database with the schema of this version; its URL.
pub(crate) async fn create(server_url: &str, name: &str) -> String {
    let mut server = PgConnection::connect(server_url).await.expect("Postgres");
    let template = template(&mut server, server_url).await;
    // Half the work of writing every page to the log, where nobody waits for the disk.
    run(&mut server, &format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")).await;
    server.close().await.expect("an orderly end");
    let url = url(server_url, name);
    // Each is an installation of its own.
    let mut database = PgConnection::connect(&url).await.expect("Postgres");
    run(&mut database, "UPDATE settings SET value = gen_random_uuid() WHERE key = 'installation'").await;
    database.close().await.expect("an orderly end");
    url
}

/// Drops a database, whoever is connected to it.
pub(crate) async fn remove(server_url: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut server = PgConnection::connect(server_url).await?;
    server.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await?;
    server.close().await
}

/// The name of the migrated database, which is made if nobody has made it yet.
async fn template(server: &mut PgConnection, server_url: &str) -> String {
    let name = format!("orderstream_template_{:016x}", migrations_hash().await);
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *server).await.expect("the lock");
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut *server)
        .await
        .expect("the list of databases");
    if !exists {
        // It gets its name when it is complete: whoever was interrupted leaves nothing that looks like a template.
        let draft = format!("{name}_draft");
        run(server, &format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)")).await;
        run(server, &format!("CREATE DATABASE {draft}")).await;
        let store = Store::new(&url(server_url, &draft), WorkerSettings::Worker, 1).expect("a URL");
        store.migrate().await.expect("the migrations run");
        store.close().await;
        run(server, &format!("ALTER DATABASE {draft} RENAME TO {name}")).await;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *server).await.expect("the lock");
    name
}

/// Changes when a migration changes. FNV-1a, because the same number must come out of every build.
async fn migrations_hash() -> u64 {
    // Tests of several packages include this file: the folder is above each of them, or in it.
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("migrations"));
    let folder = above.find(|folder| folder.is_dir()).expect("the migrations");
    let migrator = Migrator::new(folder).await.expect("the migrations");
    let checksums = migrator.iter().flat_map(|migration| migration.checksum.iter());
    checksums.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn url(server_url: &str, database: &str) -> String {
    let options = PgConnectOptions::from_str(server_url).expect("a URL").database(database);
    options.to_url_lossy().to_string()
}

async fn run(server: &mut PgConnection, statement: &str) {
    // Safe: the names in it are made of letters and digits here.
    server.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}
