//! What files may look like that are uploaded: the same as those of the command line.

use serde_json::Value;

use crate::program::{Program, client::Api, harness::eventually};

/// Uploads a file; what came of it.
async fn imported(api: &Api, file: impl Into<Vec<u8>>) -> Value {
    let answer = api.send("/v1/imports?name=orders.csv", "text/csv", file).await;
    answer.ok(202);
    let link = &answer.headers["location"];
    let ended = async || {
        let import = api.get(link).await.ok(200);
        import["summary"].is_object() || import["error"].is_string()
    };
    eventually("the import ends", ended).await;
    api.get(link).await.ok(200)
}

#[tokio::test]
async fn an_uploaded_file_is_read_like_any_other() {
    let program = Program::seeded(3, &[1_000_000; 3]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    let header = "order_code,customer_id,product_id,quantity,unit_price,note\n";
    let note = "NOTE-1,1,1,1,10.00,\"please ring\nEVIL-1,2,2,50,0.01,x\nthanks\"\n";
    let done = imported(&api, format!("{header}{note}A,1,1,1,1.00,\n")).await;
    assert_eq!((done["status"].as_str(), done["rows"].as_i64()), (Some("done"), Some(2)), "{done:#}");
    assert!(done["summary"]["notes"][0].as_str().is_some_and(|note| note.contains("line 2")), "{done:#}");

    let open = imported(&api, format!("{header}B,1,1,1,1.00,\n{}", note.replace("thanks\"", "thanks"))).await;
    assert_eq!(open["rejected_rows"], 3, "{open:#}");

    let text = format!("sep=;\n{}C;1;1;1;1,50;\n;;;;;\n", header.replace(',', ";"));
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let done = imported(&api, utf16).await;
    assert_eq!((&done["rows"], &done["summary"]["form"]["delimiter"]), (&1.into(), &";".into()), "{done:#}");

    let refused = imported(&api, &b"PK\x03\x04\x14\0\x06\0"[..]).await;
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("save it as CSV")), "{refused:#}");
    assert_eq!(program.ends().await.into_keys().collect::<Vec<_>>(), ["A", "B", "C", "NOTE-1"]);
    api.running.stop().await.exits(0);
}
