//! Dead letters and actions in the browser, without scripts: links, forms, redirects.

use reqwest::{Client, Method, redirect::Policy};

use super::{bury, ids, log, token};
use crate::program::{
    Program,
    client::{Answer, Api},
};

/// A browser that shows what it gets, and follows nothing by itself.
struct Browser {
    client: Client,
    site: String,
    cookie: Option<String>,
}

impl Browser {
    fn of(api: &Api, token: Option<&str>) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().expect("a client");
        Self {
            client,
            site: format!("http://{}", api.address),
            cookie: token.map(|token| format!("orderstream_token={token}")),
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.site)).header("accept", "text/html");
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// A page that is there.
    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    /// Sends a form from one of the site's own pages.
    async fn post(&self, path: &str, fields: &[(String, String)]) -> Answer {
        let form: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let request = self
            .request(Method::POST, path)
            .header("origin", &self.site)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.join("&"));
        Answer::of(request).await
    }

    /// What a form leads to: the address, and the page there.
    async fn sent(&self, path: &str, fields: &[(String, String)]) -> (String, String) {
        let answer = self.post(path, fields).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let to = answer.headers["location"].clone();
        let page = self.page(&to).await;
        (to, page)
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Where the first link goes whose text begins so.
fn link(page: &str, text: &str) -> String {
    let links = page.split("<a ").skip(1);
    let found = links.filter_map(|link| {
        let (attributes, rest) = link.split_once('>')?;
        let href = attributes.split("href=\"").nth(1)?.split('"').next()?;
        rest.trim_start().starts_with(text).then(|| plain(href))
    });
    found.into_iter().next().unwrap_or_else(|| panic!("no link {text:?} in {page}"))
}

/// The fields of the form that goes to this path, as they are on the page.
fn form(page: &str, action: &str) -> Vec<(String, String)> {
    let form = page.split("<form ").find(|form| form.contains(&format!("action=\"{action}\"")));
    let form = form.unwrap_or_else(|| panic!("no form to {action} in {page}")).split("</form>").next().expect("a form");
    let value = |input: &str, name: &str| {
        input.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).map(plain)
    };
    let inputs = form.split("<input").skip(1).map(|rest| format!(" {}", rest.split('>').next().expect("a tag")));
    inputs
        .filter(|input| input.contains("type=\"hidden\""))
        .map(|input| (value(&input, "name").expect("a name"), value(&input, "value").unwrap_or_default()))
        .collect()
}

/// A text without the escapes of HTML.
fn plain(text: &str) -> String {
    let escapes = [("&#x2f;", "/"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&amp;", "&")];
    escapes.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn bad(code: &str, price: &str) -> String {
    format!(
        r#"{{"order_code":"{code}","customer_id":1,"lines":[{{"product_id":1,"quantity":1,"unit_price":"{price}"}}]}}"#
    )
}

#[tokio::test]
async fn many_letters_of_a_bad_deploy_are_replayed_in_three_clicks() {
    let program = Program::seeded(1, &[10_000]).await;
    let shop = token(&program, "operator", "shop").await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::of(&api, Some(&shop));
    let empty = browser.page("/dead").await;
    assert!(empty.contains("No dead letters. Good."), "{empty}");
    program.stack.sql("ALTER TABLE orders ADD CONSTRAINT bad_deploy CHECK (code NOT LIKE 'D-%')").await;
    bury(&program, &(0..412).map(|n| bad(&format!("D-{n}"), "1.00")).collect::<Vec<_>>()).await;
    program.stack.sql("ALTER TABLE orders DROP CONSTRAINT bad_deploy").await;

    let page = browser.page("/dead").await;
    assert!(page.contains("412 ×") && page.contains("Postgres refused it"), "{page}");
    let page = browser.page(&link(&page, "Replay 412")).await;
    assert!(page.contains("<h1>Replay 412 letters"), "what and how many: {page}");
    let mut fields = form(&page, "/dead/act");
    assert!(fields.iter().any(|(name, _)| name == "up_to"), "what dies now is not meant: {fields:?}");
    let forgot = browser.post("/dead/act", &fields).await;
    assert!(forgot.text.contains("Say why") && log(&program).await.is_empty(), "a reason is needed");
    fields.push(field("why", "deploy <rolled> back"));
    let (to, page) = browser.sent("/dead/act", &fields).await;
    let entry = &log(&program).await[0];
    assert_eq!(to, format!("/dead?action={}", entry["id"]));
    assert!(page.contains("Replayed 412 letters") && page.contains("deploy &lt;rolled&gt; back"), "{page}");
    assert!(page.contains("data-count=\"dead.badge\" hidden"), "what was done is seen at once: {page}");
    assert_eq!((&entry["via"], &entry["actor"]), (&"dashboard".into(), &"shop".into()));
    assert_eq!((&entry["affected"], &entry["why"]), (&412.into(), &"deploy <rolled> back".into()));
    let page = browser.page("/actions").await;
    assert!(page.contains("deploy &lt;rolled&gt; back") && page.contains("dashboard"), "{page}");
    let page = browser.page("/actions?verb=discard").await;
    assert!(page.contains("No actions match."), "{page}");
    // What was sent again is what was done before.
    browser.sent("/dead/act", &fields).await;
    assert_eq!(log(&program).await[0]["affected"], 0);
}

#[tokio::test]
async fn letters_are_selected_found_and_discarded() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::of(&api, None);
    let mut bodies: Vec<String> = (0..60).map(|n| format!("nonsense {n}")).collect();
    bodies.push(bad("<script>alert(1)</script>", "0.001"));
    bury(&program, &bodies).await;
    let page = browser.page("/dead?view=letters").await;
    assert!(!page.contains("<script>alert"), "it is escaped");
    assert_eq!(page.matches("name=\"id\"").count(), 50);
    let page = browser.page(&link(&page, "Select page")).await;
    assert_eq!(page.matches(" checked").count(), 50);
    let next = browser.page(&link(&page, "Next page")).await;
    assert_eq!(next.matches("name=\"id\"").count(), 11);
    browser
        .get("/dead/confirm?verb=discard")
        .await
        .status
        .is_client_error()
        .then_some(())
        .expect("nothing is selected");

    let ids = ids(&program).await;
    let page = browser.page(&format!("/dead/confirm?verb=discard&id={}&id={}", ids[0], ids[1])).await;
    assert!(page.contains("<h1>Discard 2 letters") && page.contains("for good"), "{page}");
    let mut fields = form(&page, "/dead/act");
    fields.push(field("why", "a test"));
    let (_, page) = browser.sent("/dead/act", &fields).await;
    assert!(page.contains("Discarded 2 letters"), "{page}");
    let page = browser.page("/dead?reason=undecodable&replayed=no").await;
    assert!(page.contains("59 match"), "{page}");
    let page = browser.page(&link(&page, "Discard all 59")).await;
    bury(&program, &["nonsense, later".to_owned()]).await;
    let mut fields = form(&page, "/dead/act");
    fields.push(field("why", "all of them"));
    browser.sent("/dead/act", &fields).await;
    assert_eq!(log(&program).await[0]["affected"], 59);
    assert_eq!(super::ids(&program).await.len(), 1, "what came later stays");
}

#[tokio::test]
async fn stages_are_paused_resumed_and_claimed_in_the_browser_with_a_reason() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::of(&api, None);
    for (verb, affected, said) in [
        ("pause", 1, "Paused payment."),
        ("resume", 1, "Resumed payment."),
        ("claim", 0, "Made 0 messages of payment free"),
    ] {
        let fields = [field("why", verb), field("minutes", "10"), field("consumer", ""), field("idle", "10")];
        let (_, page) = browser.sent(&format!("/streams/payment/{verb}"), &fields).await;
        assert!(page.contains(said), "{said}: {page}");
        // The page that an action leads to shows what it did, and the next one is offered.
        let [does, done] = if verb == "pause" { ["resume", "pause"] } else { ["pause", "resume"] };
        let button = |verb| page.contains(&format!("action=\"/streams/payment/{verb}\""));
        assert!(button(does) && !button(done), "after {verb}: {page}");
        assert_eq!(page.contains("data-badge=\"payment.state\" data-tone=\"off\""), verb == "pause", "{page}");
        let log = log(&program).await;
        let entry = &log[0];
        assert_eq!((&entry["via"], &entry["verb"], &entry["why"]), (&"dashboard".into(), &verb.into(), &verb.into()));
        assert_eq!(entry["affected"], affected, "{entry}");
    }
    assert_eq!(log(&program).await.len(), 3, "one entry each");
}

#[tokio::test]
async fn a_letter_is_read_put_right_and_followed() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::of(&api, None);
    let body = bad("WRONG", "0.001").replace("\"customer_id\"", "\"email\":\"a@b.example\",\"customer_id\"");
    bury(&program, &[body]).await;
    let [id] = ids(&program).await.try_into().expect("one letter");
    let path = format!("/dead/{id}");
    let page = browser.page(&path).await;
    let (message, editing) = page.split_once("Put it right and replay it").expect("it can be edited");
    assert!(message.contains("•••") && !message.contains("a@b.example"), "{message}");
    assert!(editing.contains("a@b.example") && message.contains("Whoever sent it"), "{page}");
    let replay = format!("{path}/replay");
    let wrong = [field("body", &bad("WRONG", "0.002")), field("why", "to see")];
    let refused = browser.post(&replay, &wrong).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("would refuse this body, too") && refused.text.contains("0.002"), "{}", refused.text);
    let right = [field("body", &bad("WRONG", "1.00")), field("why", "price put right")];
    let (_, page) = browser.sent(&replay, &right).await;
    assert!(page.contains("with another body") && page.contains("price put right"), "{page}");
    program.drain().await;
    assert_eq!(program.ends().await.len(), 1);
    assert_eq!(browser.get("/dead/1-1").await.status, 404);
    assert_eq!(browser.get("/dead/nonsense").await.status, 404);
}

#[tokio::test]
async fn what_would_only_come_back_is_not_offered_first() {
    let program = Program::seeded(1, &[10_000]).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::of(&api, None);
    bury(&program, &(0..3).map(|n| bad(&format!("C-{n}"), "1.00")).collect::<Vec<_>>()).await;
    bury(&program, &(0..3).map(|n| bad(&format!("C-{n}"), "2.00")).collect::<Vec<_>>()).await;
    let primary = |page: &str| {
        let links = page.split("class=\"button primary\"").skip(1);
        links
            .map(|rest| rest.split_once('>').expect("a tag").1.split('<').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let page = browser.page("/dead").await;
    assert_eq!(primary(&page), ["Look at 3…"], "{page}");
    let page = browser.page(&link(&page, "Replay 3")).await;
    assert!(
        page.contains("3 letters would fail again and are left alone.") && page.contains("order C-0 is known"),
        "{page}"
    );
    assert_eq!(primary(&page), ["Look at them"], "{page}");
    // Who does it all the same says so.
    let fields = form(&page, "/dead/act");
    assert!(fields.contains(&field("force", "yes")), "{fields:?}");
    let held: Vec<_> =
        fields.iter().filter(|(name, _)| name != "force").cloned().chain([field("why", "a hope")]).collect();
    let (_, page) = browser.sent("/dead/act", &held).await;
    assert!(page.contains("3 refused (reservation would refuse it again: order C-0 is known"), "{page}");
    program.drain().await;
    assert_eq!(ids(&program).await.len(), 3, "3 conflicts are still 3");

    let id = &ids(&program).await[0];
    let page = browser.page(&format!("/dead/{id}")).await;
    assert_eq!(primary(&page), ["Edit and replay…"], "{page}");
    assert!(page.contains("A replay would fail") && page.contains("is known with another customer"), "{page}");
    let page = browser.page(&format!("/dead/{id}?edit=yes")).await;
    assert!(page.contains("id=\"edit\" open"), "{page}");
    let list = browser.page("/dead?view=letters&reason=conflict").await;
    assert!(primary(&list).is_empty(), "{list}");
}

#[tokio::test]
async fn a_viewer_has_no_buttons_and_other_sites_cannot_press_them() {
    let program = Program::seeded(1, &[10]).await;
    let viewer = token(&program, "viewer", "a screen").await;
    let shop = token(&program, "operator", "shop").await;
    let api = Api::serve(&program, &[]).await;
    bury(&program, &["x".to_owned()]).await;
    let [id] = ids(&program).await.try_into().expect("one letter");
    let stranger = Browser::of(&api, None).get("/dead").await;
    assert_eq!((stranger.status.as_u16(), &*stranger.headers["location"]), (303, "/login?next=%2Fdead"));
    let screen = Browser::of(&api, Some(&viewer));
    for path in ["/dead", "/dead?view=letters", &format!("/dead/{id}"), "/actions"] {
        let page = screen.page(path).await;
        assert!(!page.contains("/dead/confirm?") && !page.contains("textarea"), "{path}: {page}");
    }
    let fields = [field("verb", "discard"), field("id", &id), field("why", "no")];
    assert_eq!(screen.get(&format!("/dead/confirm?verb=discard&id={id}")).await.status, 403);
    assert_eq!(screen.post("/dead/act", &fields).await.status, 403);
    assert_eq!(screen.post(&format!("/dead/{id}/replay"), &fields).await.status, 403);
    // The cookie goes along with whatever a page of another site sends.
    let browser = Browser::of(&api, Some(&shop));
    let form = format!("verb=discard&id={id}&why=no");
    let forged = browser
        .request(Method::POST, "/dead/act")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", "https://evil.example")
        .body(form.clone());
    assert_eq!(Answer::of(forged).await.status, 403);
    let silent = browser
        .request(Method::POST, "/dead/act")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    assert_eq!(Answer::of(silent).await.status, 403);
    assert_eq!(ids(&program).await, [id]);
    assert!(log(&program).await.is_empty());
}
