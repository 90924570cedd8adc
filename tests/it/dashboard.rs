//! The dashboard as browsers use it, without one: the real program, over real connections.

use std::time::Instant;

use pipeline::topology::StageName;
use reqwest::{Method, RequestBuilder, redirect::Policy};
use serde_json::Value;

use crate::program::{
    Orderstream, Program,
    client::{Answer, Api},
    harness::{PATIENCE, Server, eventually},
};

/// Every page that needs nothing but the look.
const PAGES: &[&str] = &[
    "/",
    "/streams",
    "/streams/reservation",
    "/streams/payment?range=24h",
    "/streams/callback",
    "/workers",
    "/alerts",
    "/help",
];

/// What an attacker would put wherever a text comes from outside.
const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>";

/// A browser that follows no redirects.
struct Browser<'a> {
    api: &'a Api,
    client: reqwest::Client,
    token: Option<String>,
}

impl<'a> Browser<'a> {
    fn new(api: &'a Api, token: Option<&str>) -> Self {
        let client = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { api, client, token: token.map(str::to_owned) }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.api.address));
        let request = request.header("accept", "text/html,application/xhtml+xml");
        match &self.token {
            Some(token) => request.header("cookie", format!("orderstream_token={token}")),
            None => request,
        }
    }

    async fn visit(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// Sends a form, as one of our own pages does.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        Answer::of(self.form(path, fields).header("sec-fetch-site", "same-origin")).await
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", format!("http://{}", self.api.address))
            .body(body.join("&"))
    }
}

async fn token(program: &Program, role: &str) -> String {
    let made = program.run(&["token", "create", "--role", role, "--name", "ann & bob", "--json"]).await.exits(0).json();
    made["token"].as_str().expect("a token").to_owned()
}

/// A stream of events, as it is read.
struct Events {
    response: reqwest::Response,
    rest: String,
}

impl Events {
    async fn open(api: &Api, every: u64) -> Self {
        let response = api.request(Method::GET, &format!("/events?every={every}")).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        Self { response, rest: String::new() }
    }

    /// The next look.
    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.rest.find("\n\n") {
                let event: String = self.rest.drain(..end + 2).collect();
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return serde_json::from_str(data).expect("JSON");
                }
                continue;
            }
            let piece = self.response.chunk().await.expect("a piece").expect("an open stream");
            self.rest.push_str(&String::from_utf8_lossy(&piece));
        }
    }
}

#[tokio::test]
async fn every_page_shows_itself_when_there_is_nothing_to_show() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--environment", "a <test>"]).await;
    let browser = Browser::new(&api, None);
    for page in PAGES {
        let shown = browser.visit(page).await;
        assert_eq!(shown.status, 200, "{page}: {}", shown.text);
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("referrer-policy", "same-origin"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(shown.headers[name], value, "{page}");
        }
        let policy = &shown.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(shown.text.starts_with("<!doctype html>"), "{page}");
        assert!(shown.text.contains("a &lt;test&gt;") && !shown.text.contains("a <test>"), "{page}");
        assert!(
            shown.text.contains("<main id=\"main\"") && shown.text.contains("<nav class=\"side\" aria-label"),
            "{page}"
        );
        assert!(shown.text.len() < 50_000, "{page} has {} bytes", shown.text.len());
    }
}

#[tokio::test]
async fn assets_are_kept_for_ever_and_named_by_their_content() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let page = api.get("/help").await.text;
    let mut seen = 0;
    for path in page.split('"').filter(|part| part.starts_with("/assets/")) {
        let asset = api.get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        assert!(asset.headers["cache-control"].contains("immutable"), "{path}");
        let again = api.request(Method::GET, path).header("if-none-match", &asset.headers["etag"]);
        assert_eq!(Answer::of(again).await.status, 304, "{path}");
        seen += 1;
    }
    assert!(seen >= 4, "style, icon and scripts are on the page");
    assert_eq!(api.get("/assets/app-000000000000.css").await.status, 404);
}

#[tokio::test]
async fn a_browser_without_a_token_comes_to_the_login_and_from_there_to_its_page() {
    let program = Program::get().await;
    let viewer = token(&program, "viewer").await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);
    let sent = browser.visit("/streams/payment?range=1h").await;
    assert_eq!(
        (sent.status.as_u16(), sent.headers["location"].as_str()),
        (303, "/login?next=%2Fstreams%2Fpayment%3Frange%3D1h")
    );
    let login = browser.visit(&sent.headers["location"]).await;
    assert!(login.text.contains("value=\"/streams/payment?range=1h\""), "{}", login.text);
    // Nothing of the pipeline is shown to strangers.
    assert!(!login.text.contains("data-events") && !login.text.contains("class=\"side\""), "{}", login.text);

    let refused = browser.send("/login", &[("token", "os_wrong"), ("next", "/")]).await;
    assert_eq!(refused.status, 401);
    assert!(refused.text.contains("not known") && !refused.headers.contains_key("set-cookie"), "{refused:?}");

    let entered = browser.send("/login", &[("token", &viewer), ("next", "/streams/payment?range=1h")]).await;
    assert_eq!((entered.status.as_u16(), entered.headers["location"].as_str()), (303, "/streams/payment?range=1h"));
    let cookie = &entered.headers["set-cookie"];
    assert!(cookie.starts_with(&format!("orderstream_token={viewer}; HttpOnly; SameSite=Strict; Path=/")), "{cookie}");
    assert!(!cookie.contains("Secure"), "{cookie}");
    let by_https = browser.form("/login", &[("token", &viewer), ("next", "//evil.example")]);
    let by_https = Answer::of(by_https.header("x-forwarded-proto", "https")).await;
    assert!(by_https.headers["set-cookie"].ends_with("; Secure"), "{by_https:?}");
    assert_eq!(by_https.headers["location"], "/", "nobody is sent to another site");

    let inside = Browser::new(&api, Some(&viewer)).visit("/").await;
    assert_eq!(inside.status, 200);
    assert!(inside.text.contains("ann &amp; bob") && inside.text.contains("<span class=\"role\">viewer</span>"));
    let left = Browser::new(&api, Some(&viewer)).send("/logout", &[]).await;
    assert!(left.headers["set-cookie"].contains("Max-Age=0"), "{left:?}");
    // Programs get problems as ever, whatever they accept.
    Answer::of(browser.request(Method::GET, "/v1/orders")).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_an_operator_only_from_our_own_pages() {
    let program = Program::get().await;
    let (viewer, operator) = (token(&program, "viewer").await, token(&program, "operator").await);
    let api = Api::serve(&program, &["--cors-origin", "https://shop.example"]).await;
    let why = [("why", "a test"), ("minutes", "10")];
    let viewer = Browser::new(&api, Some(&viewer));
    let page = viewer.visit("/streams/payment").await.text;
    assert!(page.contains("disabled title=\"Your role is viewer: this needs operator.\""), "{page}");
    let refused = viewer.send("/streams/payment/pause", &why).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("yours has viewer") && refused.text.contains("<main"), "{}", refused.text);

    let operator = Browser::new(&api, Some(&operator));
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "https://shop.example"),
        ("origin", "null"),
    ] {
        let mut request = operator.form("/streams/payment/pause", &why).build().expect("a request");
        request.headers_mut().insert(name, value.parse().expect("a value"));
        let refused = operator.client.execute(request).await.expect("an answer");
        assert_eq!(refused.status(), 403, "{name}: {value}");
    }
    let mut silent = operator.form("/streams/payment/pause", &why).build().expect("a request");
    silent.headers_mut().remove("origin");
    assert_eq!(
        operator.client.execute(silent).await.expect("an answer").status(),
        403,
        "who says nothing is not trusted"
    );
    assert!(!program.run(&["status"]).await.exits(0).stdout.contains("payment is paused"));

    let paused = operator.send("/streams/payment/pause", &[("why", HOSTILE), ("minutes", "10")]).await;
    assert_eq!(paused.status, 303, "{}", paused.text);
    eventually("the page says that it is paused", async || {
        let page = operator.visit("/streams/payment").await.text;
        assert!(!page.contains("<img") && !page.contains("<script>"), "{page}");
        page.contains("Paused, ") && page.contains("onerror=alert(1)&gt;")
    })
    .await;
    let resumed = operator.send("/streams/payment/resume", &[("why", "over")]).await;
    assert_eq!(resumed.status, 303, "{}", resumed.text);
    let page = operator.visit(&resumed.headers["location"]).await.text;
    assert!(page.contains("Resumed payment") && page.contains("of the log."), "{page}");
    let claimed = operator.send("/streams/payment/claim", &[("why", "gone"), ("consumer", ""), ("idle", "10")]).await;
    let page = operator.visit(&claimed.headers["location"]).await.text;
    assert!(page.contains("Made 0 messages of payment free for others"), "{page}");
    assert_eq!(operator.send("/streams/payment/pause", &[("why", ""), ("minutes", "10")]).await.status, 422);
    assert_eq!(operator.send("/streams/payment/pause", &[("why", "x"), ("minutes", "-1")]).await.status, 422);
}

#[tokio::test]
async fn problems_are_pages_for_browsers_and_json_for_programs() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);
    for (path, status, word) in [
        ("/nowhere", 404, "There is nothing here"),
        ("/streams/nonsense", 404, "not a stage"),
        ("/streams/payment?range=2y", 400, "is not one of"),
        ("/%22%3E%3Cscript%3E", 404, "There is nothing here"),
    ] {
        let shown = browser.visit(path).await;
        assert_eq!(shown.status, status, "{path}");
        assert!(shown.text.contains(word) && shown.text.contains("<main"), "{path}: {}", shown.text);
        assert!(shown.text.contains(&shown.headers["x-request-id"]), "{path}");
        assert!(!shown.text.contains("<script>"), "{path}");
        assert!(shown.headers.contains_key("content-security-policy"), "{path}");
    }
    api.get("/nowhere").await.problem(404, "no_route");
    api.get("/streams/nonsense").await.problem(404, "not_found");
    Answer::of(browser.request(Method::GET, "/v1/nowhere")).await.problem(404, "no_route");
}

#[tokio::test]
async fn a_lag_that_changes_is_on_its_way_within_two_seconds() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let mut events = Events::open(&api, 1).await;
    assert_eq!(events.response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(events.response.headers()["x-accel-buffering"], "no");
    let first = events.next().await;
    assert!(first["texts"]["sentence"].is_string(), "{first}");

    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Payment);
    redis::pipe()
        .cmd("XGROUP")
        .arg("CREATE")
        .arg(&stream)
        .arg("payment")
        .arg("0")
        .arg("MKSTREAM")
        .ignore()
        .cmd("XADD")
        .arg(&stream)
        .arg("*")
        .arg("code")
        .arg(HOSTILE)
        .ignore()
        .cmd("XADD")
        .arg(&stream)
        .arg("*")
        .arg("code")
        .arg("two")
        .ignore()
        .exec_async(&mut redis)
        .await
        .expect("two entries");
    let added = Instant::now();
    loop {
        let look = events.next().await;
        if look["texts"]["payment.lag"] == "2" {
            break;
        }
        assert!(added.elapsed() < PATIENCE, "{look}");
    }
    // The page says the same, without scripts.
    let page = api.get("/").await.text;
    assert!(page.contains("<b data-live=\"payment.lag\">2</b>"), "{page}");
    assert!(page.len() < 50_000, "{} bytes", page.len());

    Answer::of(api.request(Method::GET, "/events?every=3")).await.problem(400, "invalid_query");
}

#[tokio::test]
async fn a_lag_that_redis_cannot_tell_is_unknown_on_the_page_and_never_zero() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Payment);
    let ids: Vec<String> = redis::pipe()
        .cmd("XGROUP")
        .arg("CREATE")
        .arg(&stream)
        .arg("payment")
        .arg("0")
        .arg("MKSTREAM")
        .ignore()
        .cmd("XADD")
        .arg(&stream)
        .arg("*")
        .arg("n")
        .arg("1")
        .cmd("XADD")
        .arg(&stream)
        .arg("*")
        .arg("n")
        .arg("2")
        .cmd("XADD")
        .arg(&stream)
        .arg("*")
        .arg("n")
        .arg("3")
        .query_async(&mut redis)
        .await
        .expect("three entries");
    let _: u64 = redis::cmd("XDEL").arg(&stream).arg(&ids[1]).query_async(&mut redis).await.expect("one is gone");
    eventually("it is unknown", async || {
        api.get("/").await.text.contains("<b data-live=\"payment.lag\">unknown</b>")
            && api.get("/streams/payment").await.text.contains("The lag is unknown:")
    })
    .await;
}

#[tokio::test]
async fn while_redis_is_away_every_page_shows_itself_and_says_that_it_is_old() {
    let program = Program::alone(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    eventually("there was a look", async || {
        api.get("/").await.text.contains("data-badge=\"redis\" data-tone=\"good\"")
    })
    .await;
    program.stack.end(Server::Redis, "KILL");
    let browser = Browser::new(&api, None);
    eventually("it is old", async || {
        let page = browser.visit("/").await.text;
        page.contains("Stale: last update") && page.contains("Redis does not answer")
    })
    .await;
    for page in PAGES {
        let shown = browser.visit(page).await;
        assert_eq!(shown.status, 200, "{page}: {}", shown.text);
        assert!(!shown.text.contains("data-attrs=\"stale\" hidden"), "{page} says that it is old");
    }
    let refused = browser.send("/streams/payment/pause", &[("why", "a test"), ("minutes", "")]).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("Redis is away") && refused.text.contains("<main"), "{}", refused.text);
}

#[tokio::test]
async fn whoever_serves_ends_the_streams_of_events_when_it_ends() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-notice", "0"]).await;
    let mut events = Events::open(&api, 15).await;
    events.next().await;
    let done = api.running.stop().await.exits(0);
    assert!(!done.stderr.contains("requests were cut off"), "it waits for nobody who only watches: {}", done.stderr);
    while let Ok(Some(_)) = events.response.chunk().await {}
}
