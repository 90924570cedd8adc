//! Files of orders: uploaded, imported in the background, looked at.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipeline::store::{self, ImportKind, ImportOutcome, ImportView, NewImport};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use utoipa::IntoParams;

use super::{
    App,
    access::{Operator, Viewer},
    body::{self, Incoming},
    idempotency,
    problem::{Code, Problem},
    query::{Params, bounded},
    uploads::{Upload, Uploads},
};
use crate::{
    cli::{ImportArgs, payment::PaymentArgs},
    commands::import::{
        Begun, Session,
        reading::{File, spill_dir},
        summary::Summary,
    },
    monitor::process_id,
    progress::{Progress, Standing},
};

/// Most characters of a file's name.
const NAME_CHARS_MAX: usize = 255;

/// Memory for grouping the rows of an upload; beyond it, groups spill to disk.
const MEMORY_BYTES: u64 = 64 << 20;

/// Imports of this process whose progress and reject files are kept.
const REMEMBERED_MAX: usize = 100;

/// How often uploads are looked for that somebody left behind.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long imports may take to write down that the process ends.
const END_MAX: Duration = Duration::from_secs(5);

/// So many processes may vanish while they import a file. Then it is the file that ends them.
const TRIES_MAX: u64 = 5;

/// The imports of this process.
pub(super) struct Imports {
    places: Arc<Semaphore>,
    place_count: u32,
    /// Files that are kept until they are imported.
    uploads: Uploads,
    /// This process, in the record of imports.
    holder: String,
    /// An import has ended: its file may go.
    ended: Notify,
    /// Reject files, as long as the process lives.
    folder: TempDir,
    running: Mutex<BTreeMap<i64, Arc<Running>>>,
}

/// One import of this process.
struct Running {
    standing: Arc<Mutex<Standing>>,
    /// What came of it, or why it failed.
    ended: Mutex<Option<Result<serde_json::Value, String>>>,
    rejects: PathBuf,
}

impl Imports {
    /// Room for so many at once.
    pub(super) fn new(places: u32, uploads: Uploads) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("orderstream-rejects-").tempdir_in(spill_dir())?;
        Ok(Self {
            places: Arc::new(Semaphore::new(places as usize)),
            place_count: places,
            uploads,
            holder: process_id(),
            ended: Notify::new(),
            folder,
            running: Mutex::default(),
        })
    }

    /// Waits until imports have noticed that the process ends, and said so.
    pub(super) async fn finish(&self) {
        if tokio::time::timeout(END_MAX, self.places.acquire_many(self.place_count)).await.is_err() {
            tracing::warn!("an import was cut off; whoever has its file goes on with it");
        }
    }

    fn find(&self, id: i64) -> Option<Arc<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn add(&self, id: i64) -> Arc<Running> {
        let rejects = self.folder.path().join(format!("{id}.rejects.csv"));
        let import = Arc::new(Running { standing: Arc::default(), ended: Mutex::default(), rejects });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id, Arc::clone(&import));
        while running.len() > REMEMBERED_MAX
            && let Some((_, oldest)) = running.pop_first()
        {
            // Often there is none.
            if let Err(error) = std::fs::remove_file(&oldest.rejects) {
                tracing::debug!(%error, "an old reject file stays");
            }
        }
        import
    }
}

/// How a file is imported.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadParams {
    /// The file's name, for people.
    #[param(max_length = 255)]
    name: Option<String>,
    /// Reject orders whose rows name several customers.
    strict: Option<bool>,
}

/// Imports a CSV of orders in the background. Its progress is seen at the link.
#[utoipa::path(
    post, path = "/v1/imports", tag = "imports", operation_id = "addImport",
    request_body(content = String, content_type = "text/csv"),
    params(
        UploadParams,
        ("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request: sent again, it is answered again"),
    ),
    responses((status = 202, description = "It is being imported", body = Object))
)]
pub(super) async fn add(
    State(app): State<App>,
    Operator(caller): Operator,
    Params(params): Params<UploadParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::demand_csv(&headers)?;
    let name = params.name.unwrap_or_else(|| "upload.csv".to_owned());
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let detail = format!("name: 1 to {NAME_CHARS_MAX} characters, none of them a control character");
        return Err(Problem::new(Code::InvalidQuery, detail));
    }
    let place = Arc::clone(&app.imports.places).try_acquire_owned().map_err(|_| {
        let detail = format!("{} uploads and imports are being worked on", app.options.uploads);
        Problem::new(Code::Busy, detail).retry_after(5)
    })?;
    let mut incoming = Incoming::new(&headers, body, app.options.upload_max)?;
    let mut upload = app.imports.uploads.begin(incoming.bytes_max()).await?;
    let mut hasher = Sha256::new();
    while let Some(piece) = incoming.next().await? {
        hasher.update(&piece);
        upload.write(&piece).await?;
    }
    upload.sync().await?;
    let strict = params.strict.unwrap_or_default();
    let content = [&hasher.finalize()[..], &[u8::from(strict)], name.as_bytes()].concat();
    let work = async {
        let upload = upload.keep().await?;
        let import = NewImport {
            kind: ImportKind::Orders,
            file_name: &name,
            holder: &app.imports.holder,
            upload: Some(&upload.name),
            strict,
        };
        let id = match store::start_import(&app.store.pool(), import).await {
            Ok(id) => id,
            Err(error) => {
                upload.delete();
                return Err(Problem::from(error));
            }
        };
        start(&app, place, Accepted { id, upload, name: name.clone(), strict })?;
        let link = format!("/v1/imports/{id}");
        let location = [(header::LOCATION, HeaderValue::from_str(&link).expect("plain ASCII"))];
        let links = json!({ "import": link, "rejects": format!("{link}/rejects") });
        let body = Json(json!({ "id": id, "status": "reading", "links": links }));
        let began = Extension(idempotency::Began { import_id: id });
        Ok::<_, Problem>((StatusCode::ACCEPTED, location, began, body).into_response())
    };
    idempotency::once(&app, caller, "POST /v1/imports", &headers, &content, work).await
}

/// An upload that has its import.
struct Accepted {
    id: i64,
    upload: Upload,
    name: String,
    strict: bool,
}

/// Imports an upload in the background.
fn start(app: &App, place: OwnedSemaphorePermit, accepted: Accepted) -> Result<(), Problem> {
    let Accepted { id, upload, name, strict } = accepted;
    let session = Session::over(&app.backends, &app.store, app.partitions, &app.imports.holder);
    let import = app.imports.add(id);
    let file = upload.open().and_then(|file| File::upload(&name, file, import.rejects.clone()));
    let file = file.map_err(anyhow::Error::from)?;
    upload.count_try().map_err(anyhow::Error::from)?;
    let args = ImportArgs {
        files: Vec::new(),
        refunds: false,
        dry_run: false,
        strict,
        no_wait: false,
        rejects: None,
        memory: MEMORY_BYTES,
        max_backlog: app.options.max_backlog,
        payment: PaymentArgs::installed(),
    };
    let app = app.clone();
    let mut summary = Summary::new(&file);
    // An import waits on async closures that no other thread may drive: it has a thread of its own.
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut progress = Progress::watched(Arc::clone(&import.standing));
        let begun = Begun { id, is_kept: true };
        let work = session.go_on(begun, file, &args, &mut summary, &mut progress, &app.shutdown);
        let ended = match runtime.block_on(work) {
            Ok(()) => serde_json::to_value(&summary).map_err(|error| error.to_string()),
            Err(error) => Err(crate::exit::chain(&error)),
        };
        if let Err(error) = &ended {
            tracing::warn!(import = id, error, "an import failed");
        }
        *import.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        upload.forget_tries();
        drop(upload);
        drop(place);
        app.imports.ended.notify_one();
    });
    Ok(())
}

/// Goes on with uploads that a process left behind, and deletes those that are over, until the shutdown.
pub(super) async fn look_after_uploads(app: App) {
    while !app.shutdown.has_begun() {
        look_after(&app).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = app.imports.ended.notified() => {}
            () = app.shutdown.begun() => {}
        }
    }
}

/// One look at the folder of uploads.
pub(super) async fn look_after(app: &App) {
    if let Err(error) = take_up(app).await {
        // Postgres is away, mostly, which others tell.
        tracing::debug!(error = crate::exit::chain(&error), "uploads that were left behind are not looked for");
    }
}

async fn take_up(app: &App) -> anyhow::Result<()> {
    let uploads = &app.imports.uploads;
    let kept = tokio::task::block_in_place(|| uploads.kept())?;
    if kept.is_empty() {
        return Ok(());
    }
    let pool = app.store.pool();
    let imports = store::kept_uploads(&pool, &kept).await?;
    for name in kept.iter().filter(|name| imports.iter().all(|import| import.upload != **name)) {
        if let Some(orphan) = uploads.claim_orphan(name)? {
            orphan.delete();
        }
    }
    for import in imports {
        let Some(upload) = uploads.claim(&import.upload)? else { continue };
        if import.is_over {
            upload.delete();
            continue;
        }
        let Ok(place) = Arc::clone(&app.imports.places).try_acquire_owned() else { return Ok(()) };
        if store::take_import(&pool, import.id, &app.imports.holder).await? {
            if upload.tries()? >= TRIES_MAX {
                give_up(app, import.id).await?;
                continue;
            }
            tracing::info!(import = import.id, file = import.file_name, "going on with an upload");
            let accepted = Accepted { id: import.id, upload, name: import.file_name, strict: import.strict };
            start(app, place, accepted).map_err(|problem| anyhow::anyhow!("{}", problem.detail()))?;
        }
    }
    Ok(())
}

/// Ends an import of this process that has ended others.
async fn give_up(app: &App, id: i64) -> anyhow::Result<()> {
    let error = format!("{TRIES_MAX} processes were killed while they imported this file: out of memory?");
    tracing::error!(import = id, error, "an import is given up");
    let outcome = ImportOutcome::default();
    store::note_import_status(&app.store.pool(), id, &app.imports.holder, "failed", &outcome).await?;
    *app.imports.add(id).ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(error));
    Ok(())
}

/// An import, with what this process knows of it.
#[derive(Serialize)]
pub(crate) struct Document {
    #[serde(flatten)]
    pub(crate) view: ImportView,
    /// How far it is; null when it has ended. Where another process runs it, as that noted a few seconds ago.
    pub(crate) progress: Option<Standing>,
    /// The summary that the command prints, once it has ended; null where another process ran it.
    pub(crate) summary: Option<serde_json::Value>,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

impl Document {
    /// What this process knows of an import.
    pub(crate) fn new(app: &App, view: ImportView) -> Self {
        let import = app.imports.find(view.id);
        let ended =
            import.as_ref().and_then(|import| import.ended.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let standing = || import.map(|import| import.standing.lock().unwrap_or_else(PoisonError::into_inner).clone());
        match ended {
            None => Self { progress: standing().or_else(|| noted(&view)), summary: None, error: None, view },
            Some(Ok(summary)) => Self { progress: None, summary: Some(summary), error: None, view },
            Some(Err(error)) => Self { progress: None, summary: None, error: Some(error), view },
        }
    }
}

/// Whether this process has a file of rejected rows of an import that has ended.
pub(crate) fn has_rejects(app: &App, id: i64) -> bool {
    app.imports.find(id).is_some_and(|import| {
        import.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some() && import.rejects.exists()
    })
}

/// How far an import of another process is, as that process noted.
fn noted(view: &ImportView) -> Option<Standing> {
    let phase = match view.status.as_str() {
        "waiting" => "processing",
        status => status,
    };
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let position = view.position.filter(|_| view.finished_at.is_none())?;
    Some(Standing { phase: phase.to_owned(), position: count(position), length: view.length.map(count) })
}

fn unknown() -> Problem {
    Problem::new(Code::NotFound, "there is no import of this number")
}

/// One import: where it stands, and what came of it.
#[utoipa::path(
    get, path = "/v1/imports/{id}", tag = "imports", operation_id = "getImport",
    params(("id" = i64, Path, description = "The import's number")),
    responses((status = 200, description = "The import", body = Object))
)]
pub(super) async fn show(State(app): State<App>, _: Viewer, Path(id): Path<i64>) -> Result<Response, Problem> {
    let views = store::list_imports(&app.reports.pool(), Some(id), None, 1).await?;
    let view = views.into_iter().next().ok_or_else(unknown)?;
    Ok(Json(Document::new(&app, view)).into_response())
}

/// Which imports.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Most imports to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this number: `next` of the page before has it.
    after: Option<i64>,
}

/// Imports, newest first, those of the command line as well.
#[utoipa::path(
    get, path = "/v1/imports", tag = "imports", operation_id = "listImports", params(ListParams),
    responses((status = 200, description = "A page of imports; `next` is the address of the next one, or null", body = Object))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let limit = bounded("limit", params.limit, 50, 1_000)?;
    let views = store::list_imports(&app.reports.pool(), None, params.after, i64::from(limit)).await?;
    let last = views.last().filter(|_| views.len() == limit as usize).map(|view| view.id);
    let next = last.map(|last| format!("/v1/imports?limit={limit}&after={last}"));
    let imports: Vec<Document> = views.into_iter().map(|view| Document::new(&app, view)).collect();
    Ok(Json(json!({ "imports": imports, "next": next })).into_response())
}

/// The rejected rows of an import of this process, as CSV.
#[utoipa::path(
    get, path = "/v1/imports/{id}/rejects", tag = "imports", operation_id = "getRejects",
    params(("id" = i64, Path, description = "The import's number")),
    responses((status = 200, description = "The rejected rows", body = String, content_type = "text/csv"))
)]
pub(super) async fn rejects(State(app): State<App>, _: Viewer, Path(id): Path<i64>) -> Result<Response, Problem> {
    let none = || {
        let detail =
            "there are no rejected rows of this import, or another process has them, or had them before it ended";
        Problem::new(Code::NotFound, detail)
    };
    let import = app.imports.find(id).ok_or_else(none)?;
    if import.ended.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return Err(Problem::new(Code::NotFound, "the import has not ended yet"));
    }
    let file = tokio::fs::File::open(&import.rejects).await.map_err(|_| none())?;
    let pieces = futures::stream::try_unfold(file, async |mut file| {
        use tokio::io::AsyncReadExt;
        let mut piece = vec![0; 64 * 1024];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, io::Error>((read > 0).then_some((piece, file)))
    });
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(pieces)).into_response())
}
