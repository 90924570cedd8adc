//! Who takes the money: read from Postgres, never decided by a process.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    gateway::Gateway,
    store::{self, GatewayKind, Installed, KnownGateway, NewAction, NewGateway, SetGateway, Store},
};

/// A client of a gateway.
#[derive(Debug)]
pub struct Connected {
    /// It.
    pub client: Arc<dyn Gateway>,
    /// The fingerprint of the key that it sends, to be recorded as the first one of this gateway.
    pub first_key: Option<String>,
}

/// Makes clients of gateways, and knows what this process was told of them.
pub trait Connector: fmt::Debug + Send + Sync {
    /// A client of one of the gateways that are installed; `takes_new` says whether new payments are taken by it.
    ///
    /// # Errors
    /// When this process must not work with it: why, for people.
    fn connect(&self, gateway: &KnownGateway, installed: &Installed, takes_new: bool) -> Result<Connected, String>;

    /// Who is to take payments of an installation that has never had anybody take any, all gateways of earlier versions
    /// given; `None` of a process that begins no payments.
    ///
    /// # Errors
    /// When somebody has to say it: why, for people.
    fn first(&self, earlier: &[KnownGateway]) -> Result<Option<NewGateway>, String>;

    /// What is noted when this process sets that first gateway.
    fn first_action(&self, first: &KnownGateway) -> NewAction;

    /// Whether what this process was told fits the gateway that takes new payments, all gateways given.
    ///
    /// # Errors
    /// When it does not: what it was told, and the way out, for people.
    fn agree(&self, current: &KnownGateway, known: &[KnownGateway]) -> Result<(), String>;
}

/// Why nobody is there who takes the money.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Postgres could not be asked.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// This process must not work with the gateway of the installation.
    #[error("{0}")]
    Refused(String),
}

/// The gateways of an installation: the one that takes new payments, and those that took earlier ones. Clones share them.
#[derive(Debug, Clone)]
pub struct Gateways {
    connector: Arc<dyn Connector>,
    clients: Arc<RwLock<Clients>>,
    refusal: watch::Sender<Option<String>>,
    complaints: Arc<Mutex<FxHashMap<(&'static str, String), Complaint>>>,
}

/// Why something waits for a gateway, and when that was said last.
#[derive(Debug)]
struct Complaint {
    why: String,
    said: Instant,
}

/// What does not change is said again after this long.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Clients {
    current: Option<Client>,
    by_name: FxHashMap<String, Client>,
}

/// A client, and what was recorded of its gateway when it was made. It is no longer used once that has changed.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) record: KnownGateway,
    pub(super) gateway: Arc<dyn Gateway>,
}

impl Gateways {
    /// Nothing is read yet.
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, clients: Arc::default(), refusal: watch::Sender::new(None), complaints: Arc::default() }
    }

    /// Says why `what` waits for a gateway, unless that was said just now: whoever waits comes again and again.
    pub(super) fn complain(&self, what: &'static str, name: &str, waiting: usize, why: &str) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let complaint = complaints.entry((what, name.to_owned()));
        let is_old = |said: &Complaint| said.why != why || said.said.elapsed() > SILENCE;
        if let Entry::Occupied(said) = &complaint
            && !is_old(said.get())
        {
            return;
        }
        complaint.insert_entry(Complaint { why: why.to_owned(), said: Instant::now() });
        warn!(gateway = name, waiting, why, "{what} wait for their gateway");
    }

    /// Who takes new payments, as far as this process has heard of it.
    pub fn current(&self) -> Option<Arc<dyn Gateway>> {
        self.taking_new().map(|client| client.gateway)
    }

    /// The same, with what was recorded then.
    pub(super) fn taking_new(&self) -> Option<Client> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// Reads who takes new payments; the first process of an installation sets it.
    ///
    /// # Errors
    /// When Postgres cannot be reached, or this process was told otherwise.
    pub async fn load(&self, store: &Store) -> Result<(), GatewayError> {
        loop {
            let mut installed = read(store).await?;
            if installed.current.is_none() {
                let Some(first) = self.connector.first(&installed.gateways).map_err(GatewayError::Refused)? else {
                    return Ok(());
                };
                let action = |gateway: &KnownGateway, _: Option<&KnownGateway>| self.connector.first_action(gateway);
                match store::set_gateway(store, &first, true, action).await? {
                    SetGateway::Set { gateway, action, .. } => {
                        let currency = gateway.currency.as_deref().unwrap_or_default();
                        info!(gateway = gateway.name, currency, action, "the first gateway of this installation");
                        if matches!(gateway.kind, GatewayKind::Simulator { .. }) {
                            warn!(
                                "payments of this installation are simulated from now on, and nobody is charged; a payment provider is said by --gateway at the first start, or now by: orderstream provider set URL"
                            );
                        }
                    }
                    SetGateway::Kept(_) => {}
                    SetGateway::NameTaken(gateway) | SetGateway::OtherKey(gateway) => {
                        return Err(GatewayError::Refused(format!("the name {} is taken", gateway.name)));
                    }
                }
                installed = read(store).await?;
            }
            let Some(current) = installed.current() else { return Ok(()) };
            if matches!(current.kind, GatewayKind::Http { .. }) && current.reference_prefix != installed.mark {
                return Err(GatewayError::Refused(format!(
                    "the id of this installation is another one than when {} began to take its payments: it is a copy. Say who takes \
                     its own: orderstream provider set URL",
                    current.name
                )));
            }
            self.connector.agree(current, &installed.gateways).map_err(GatewayError::Refused)?;
            // Else somebody recorded a key for it at the same moment: is it ours?
            if let Some(client) = self.connect(store, current, &installed, true).await? {
                let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
                // Which key a client sends hangs on who takes new payments: those of before are made anew.
                clients.by_name.clear();
                clients.by_name.insert(client.record.name.clone(), client.clone());
                clients.current = Some(client);
                return Ok(());
            }
        }
    }

    /// A client of a gateway, whose key is recorded if it is the first; `None` where another process recorded one meanwhile.
    async fn connect(
        &self,
        store: &Store,
        gateway: &KnownGateway,
        installed: &Installed,
        takes_new: bool,
    ) -> Result<Option<Client>, GatewayError> {
        let connected = self.connector.connect(gateway, installed, takes_new).map_err(GatewayError::Refused)?;
        let mut record = gateway.clone();
        if let Some(fingerprint) = connected.first_key {
            let has_confirmed = {
                let mut connection = store.pool().acquire().await.map_err(store::Error::from)?;
                store::has_confirmed(&mut connection, &record.name).await?
            };
            if has_confirmed {
                return Err(GatewayError::Refused(format!(
                    "{0} has confirmed charges, and no key of it is recorded: nobody knows whether the key of this process \
                     (fingerprint {fingerprint}) is of the same account. Have the provider asked: orderstream provider key {0}",
                    record.name
                )));
            }
            if !store::record_key(&store.pool(), &record.name, &fingerprint).await? {
                return Ok(None);
            }
            info!(
                gateway = record.name,
                fingerprint, "the key of this process is recorded as the key for its provider"
            );
            record.key_fingerprints.push(fingerprint);
        }
        Ok(Some(Client { record, gateway: connected.client }))
    }

    /// Reads again who takes new payments: somebody has changed it. A process that was told otherwise says so to whoever
    /// waits in [`Gateways::refused`], and begins no payment any more.
    pub(super) async fn follow(&self, store: &Store) -> Result<(), store::Error> {
        match self.load(store).await {
            Ok(()) => {
                if let Some(current) = self.current() {
                    info!(gateway = current.name(), "who takes new payments has changed: it is this one from now on");
                }
                Ok(())
            }
            Err(GatewayError::Store(error)) => Err(error),
            Err(GatewayError::Refused(why)) => {
                if self.refusal.send_replace(Some(why.clone())).is_none() {
                    error!(why, "this process begins no more payments");
                }
                Ok(())
            }
        }
    }

    /// Waits until this process must begin no more payments.
    pub async fn refused(&self) {
        let mut refusal = self.refusal.subscribe();
        if refusal.wait_for(Option::is_some).await.is_err() {
            // Never: this one holds the other end.
            std::future::pending::<()>().await;
        }
    }

    /// Why this process must begin no more payments, for people, if it must not.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.borrow().clone()
    }

    /// The gateway that a payment is stored under; else why this process cannot ask it.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub(super) async fn named(
        &self,
        store: &Store,
        name: &str,
    ) -> Result<Result<Arc<dyn Gateway>, String>, store::Error> {
        loop {
            let known = {
                let mut connection = store.pool().acquire().await?;
                store::known_gateways(&mut connection).await?
            };
            let Some(gateway) = known.into_iter().find(|gateway| gateway.name == name) else {
                return Ok(Err(format!("nothing is recorded of the gateway {name}")));
            };
            let made = self.clients.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned();
            // Its provider may have moved, or another key may be asked for.
            if let Some(client) = made.filter(|client| client.record == gateway) {
                return Ok(Ok(client.gateway));
            }
            match self.connect(store, &gateway, &read(store).await?, false).await {
                Ok(None) => {}
                Ok(Some(client)) => {
                    let made = Arc::clone(&client.gateway);
                    let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
                    clients.by_name.insert(gateway.name, client);
                    return Ok(Ok(made));
                }
                Err(GatewayError::Store(error)) => return Err(error),
                Err(GatewayError::Refused(why)) => return Ok(Err(why)),
            }
        }
    }
}

/// All that is recorded of gateways.
async fn read(store: &Store) -> Result<Installed, store::Error> {
    let mut connection = store.pool().acquire().await?;
    store::installed(&mut connection).await
}
