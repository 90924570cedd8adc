//! Files of orders: uploaded, imported in the background, looked at.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipeline::store::{self, ImportView};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncSeekExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use utoipa::IntoParams;

use super::{
    App,
    access::{Operator, Viewer},
    body::{self, Incoming},
    idempotency,
    problem::{Code, Problem},
    query::{Params, bounded},
};
use crate::{
    cli::{ImportArgs, payment::PaymentArgs},
    commands::import::{
        Session,
        reading::{File, spill_dir},
        summary::Summary,
    },
    progress::{Progress, Standing},
};

/// Most characters of a file's name.
const NAME_CHARS_MAX: usize = 255;

/// Memory for grouping the rows of an upload; beyond it, groups spill to disk.
const MEMORY_BYTES: u64 = 64 << 20;

/// Imports of this process whose progress and reject files are kept.
const REMEMBERED_MAX: usize = 100;

/// The imports of this process.
pub(super) struct Imports {
    places: Arc<Semaphore>,
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
    pub(super) fn new(places: u32) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("orderstream-uploads-").tempdir_in(spill_dir())?;
        Ok(Self { places: Arc::new(Semaphore::new(places as usize)), folder, running: Mutex::default() })
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
    body::demand_type(&headers, "text/csv")?;
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
    let folder = app.imports.folder.path().to_owned();
    // Without a name in the folder: it is gone when nobody has it open any more, whatever happens.
    let spool =
        tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await.map_err(anyhow::Error::from)?;
    let mut spool = tokio::fs::File::from_std(spool.map_err(|error| no_room(&error))?);
    let mut hasher = Sha256::new();
    while let Some(piece) = incoming.next().await? {
        hasher.update(&piece);
        spool.write_all(&piece).await.map_err(|error| no_room(&error))?;
    }
    spool.flush().await.map_err(|error| no_room(&error))?;
    spool.rewind().await.map_err(|error| no_room(&error))?;
    let file = spool.into_std().await;
    let strict = params.strict.unwrap_or_default();
    let content = [&hasher.finalize()[..], &[u8::from(strict)], name.as_bytes()].concat();
    let work = begin(&app, place, file, &name, strict);
    idempotency::once(&app, caller, "POST /v1/imports", &headers, &content, work).await
}

fn no_room(error: &io::Error) -> Problem {
    tracing::warn!(%error, "an upload could not be kept");
    Problem::new(Code::Busy, "there is no room for the upload").retry_after(60)
}

async fn begin(
    app: &App,
    place: OwnedSemaphorePermit,
    file: std::fs::File,
    name: &str,
    strict: bool,
) -> Result<Response, Problem> {
    let session = Session::over(&app.backends, &app.store, app.partitions);
    let id = session.begin(name).await?;
    let import = app.imports.add(id);
    let file = File::upload(name, file, import.rejects.clone()).map_err(|error| no_room(&error))?;
    let args = ImportArgs {
        files: Vec::new(),
        refunds: false,
        dry_run: false,
        strict,
        no_wait: false,
        rejects: None,
        memory: MEMORY_BYTES,
        max_backlog: app.options.max_backlog,
        payment: PaymentArgs::simulated(),
    };
    let shutdown = app.shutdown.clone();
    let mut summary = Summary::new(&file);
    // An import waits on async closures that no other thread may drive: it has a thread of its own.
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut progress = Progress::watched(Arc::clone(&import.standing));
        let done = runtime.block_on(session.go_on(id, file, &args, &mut summary, &mut progress, &shutdown));
        let ended = match done {
            Ok(()) => serde_json::to_value(&summary).map_err(|error| error.to_string()),
            Err(error) => Err(crate::exit::chain(&error)),
        };
        if let Err(error) = &ended {
            tracing::warn!(import = id, error, "an import failed");
        }
        *import.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        drop(place);
    });
    let link = format!("/v1/imports/{id}");
    let location = [(header::LOCATION, HeaderValue::from_str(&link).expect("plain ASCII"))];
    let links = json!({ "import": link, "rejects": format!("{link}/rejects") });
    Ok((StatusCode::ACCEPTED, location, Json(json!({ "id": id, "status": "reading", "links": links }))).into_response())
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
