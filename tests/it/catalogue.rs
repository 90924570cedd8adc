//! `orderstream load`: a file is loaded whole, or refused with row, column and cause.

use crate::program::{Orderstream, Program};

/// Rows of products from 1 to `count`, as the test's catalogue has them.
fn products(count: i64) -> String {
    let rows = (1..=count).map(|id| format!("{id},SKU-{id},Product {id},1.00,10\n"));
    "id,sku,name,unit_price,stock\n".to_owned() + &rows.collect::<String>()
}

async fn count(program: &Program, table: &str) -> i64 {
    program.stack.value(&format!("SELECT count(*) FROM {table}")).await
}

#[tokio::test]
async fn a_refused_catalogue_names_row_column_and_cause_and_loads_nothing() {
    let program = Program::get().await;
    program.write("products.csv", products(12_000));
    program.run(&["load", "products", "products.csv"]).await.exits(0);
    assert_eq!(count(&program, "products").await, 12_000);
    // Open orders hold pieces of one that is not in the first statement of a load.
    let held = sqlx::query("UPDATE products SET reserved = 7 WHERE id = 11000");
    held.execute(&program.stack.reports.pool()).await.expect("held");

    let big = products(12_000);
    let row = |id: i64, to: &str| big.replace(&format!("\n{id},SKU-{id},Product {id},1.00,10\n"), &format!("\n{to}\n"));
    let new = |id: i64, to: &str| row(id, to).replace("Product", "Thing");
    let table = [
        (row(2, "2,,Two,1.00,10"), "line 3, column sku: is empty"),
        (row(3, "3,SKU-1,Three,1.00,10"), "line 4, column sku: \"SKU-1\" stands on line 2 already"),
        (row(4, "4,SKU\u{200b}-4,Four,1.00,10"), "line 5, column sku: contains U+200B"),
        (row(5, "1,SKU-5,Five,1.00,10"), "line 6, column id: 1 stands on line 2 already"),
        (row(5, "x,SKU-5,Five,1.00,10"), "line 6, column id: \"x\" is no positive whole number"),
        (row(6, "6,SKU-6,Six,1.005,10"), "line 7, column unit_price: \"1.005\" is not a plain amount"),
        (row(7, "7,SKU-7,Seven,1.00,-1"), "line 8, column stock: \"-1\" is no whole number from 0 on"),
        (row(8, "8,SKU-8,\"Eight\nof them\",1.00,10"), "line 9, column name: contains a line break"),
        (row(9, "9,SKU-9,Nine,1.00"), "line 10: the row has 4 columns, the header 5"),
        (
            row(10, "10,SKU-10,\"Ten,1.00,10"),
            "line 11, column name: a quote in the row of line 11 is not closed within 100 lines",
        ),
        // What only Postgres knows.
        (new(11_000, "11000,SKU-11000,Thing,1.00,6"), "line 11001, column stock: 6 is less than the pieces that open"),
        (
            "id,sku,name,unit_price,stock\n20001,NEW,New,1.00,1\n20002,SKU-17,Taken,1.00,1\n".to_owned(),
            "line 3, column sku: \"SKU-17\" belongs to another product",
        ),
        ("id,sku,name\n1,A,B\n".to_owned(), "column unit_price is missing in the header"),
    ];
    for (file, cause) in table {
        program.write("products.csv", file);
        let refused = program.run(&["load", "products", "products.csv"]).await.exits(1);
        assert!(refused.stderr.contains("products.csv"), "{}", refused.stderr);
        assert!(refused.stderr.contains(cause), "{cause}: {}", refused.stderr);
        for noise in ["at line", "constraint", "error returned from database"] {
            assert!(!refused.stderr.contains(noise), "{}", refused.stderr);
        }
        assert_eq!(count(&program, "products").await, 12_000);
        assert_eq!(count(&program, "products WHERE name LIKE 'Thing%'").await, 0, "nothing was loaded");
    }
}

#[tokio::test]
async fn a_mail_address_that_is_none_is_not_loaded() {
    let program = Program::get().await;
    for (email, cause) in [
        ("nobody", "\"nobody\" is no mail address"),
        ("a@", "is no mail address"),
        ("\"a@example.com\nBcc: b@example.com\"", "contains a line break"),
        ("\"a@example.com\rBcc: b@example.com\"", "contains a line break"),
        ("a b@example.com", "is no mail address"),
        ("a@example.com\u{200b}", "contains U+200B"),
    ] {
        program.write("customers.csv", format!("id,name,email\n1,One,one@example.com\n2,Two,{email}\n"));
        let refused = program.run(&["load", "customers", "customers.csv"]).await.exits(1);
        assert!(refused.stderr.contains("customers.csv, line 3, column email: "), "{}", refused.stderr);
        assert!(refused.stderr.contains(cause) && refused.stderr.contains("nothing was loaded"), "{}", refused.stderr);
        assert_eq!(count(&program, "customers").await, 0);
    }
    // Nobody must have one.
    program.write(
        "customers.csv",
        "id,name,email\n1,One,\n2,Two,zwei@bücher.example\n3,\"Three, Inc.\", t@example.com \n",
    );
    program.run(&["load", "customers", "customers.csv"]).await.exits(0);
    let email: String = program.stack.value("SELECT email FROM customers WHERE id = 3").await;
    assert_eq!(email, "t@example.com");
}

#[tokio::test]
async fn a_catalogue_from_a_spreadsheet_is_loaded_like_any_other() {
    let program = Program::get().await;
    let text =
        "sep=;\r\nid;sku;name;unit_price;stock;;\r\n1;A;\"Bücher; neu\";19,99;5;;\r\n2;B;Äpfel;1;0;;\r\n;;;;;;\r\n";
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for file in [text.as_bytes(), &utf16] {
        program.write("products.csv", file);
        let loaded = program.run(&["load", "products", "products.csv"]).await.exits(0);
        assert!(loaded.stderr.contains("2 rows loaded"), "{}", loaded.stderr);
        let encoding = if file == text.as_bytes() { "UTF-8" } else { "UTF-16" };
        let told =
            format!("products.csv: read as {encoding}, separated by ; (a comma in an amount is a decimal point)");
        assert!(loaded.stderr.contains(&told), "{}", loaded.stderr);
        assert!(loaded.stderr.contains("passed over 1 row with nothing in any column"), "{}", loaded.stderr);
        let price: i64 = program.stack.value("SELECT unit_price_cents FROM products WHERE sku = 'A'").await;
        let name: String = program.stack.value("SELECT name FROM products WHERE id = 1").await;
        assert_eq!((price, name.as_str()), (1_999, "Bücher; neu"));
    }
    program.write("customers.csv", "id,name,email,note,\n1,One,,x,\n");
    let loaded = program.run(&["load", "customers", "customers.csv"]).await.exits(0);
    assert!(loaded.stderr.contains("customers.csv: ignored columns: note\n"), "{}", loaded.stderr);
    program.write("products.csv", b"\x1f\x8b\x08\0");
    let refused = program.run(&["load", "products", "products.csv"]).await.exits(1);
    assert!(refused.stderr.contains("compressed with gzip"), "{}", refused.stderr);
}
