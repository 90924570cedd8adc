//! What an import did, in a form that tests compare.

use std::{io::Read, ops::ControlFlow};

use orderstream::import::{self, Form, GroupedOrder, ReadError, ReadOptions, Reason, Warnings};

/// The layout of the files that are really seen.
pub(crate) const HEADER: &str = "id,order_code,customer_id,product_id,quantity,unit_price,total\n";

/// Everything that an import tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) rows: u64,
    pub(crate) accepted_rows: u64,
    pub(crate) rejected_rows: u64,
    pub(crate) rejected_orders: u64,
    pub(crate) sha256: String,
    pub(crate) form: Form,
    pub(crate) warnings: Warnings,
    pub(crate) orders: Vec<GroupedOrder>,
    pub(crate) rejects: Vec<Rejected>,
    pub(crate) on_disk: bool,
}

/// A rejected row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rejected {
    pub(crate) line: u64,
    pub(crate) order_code: Option<String>,
    pub(crate) column: Option<String>,
    pub(crate) value: String,
    pub(crate) reason: Reason,
}

impl Outcome {
    /// `line reason column` of each rejected row.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let shown = |Rejected { line, column, reason, .. }: &Rejected| match column {
            Some(column) => format!("{line} {} {column}", reason.code()),
            None => format!("{line} {}", reason.code()),
        };
        self.rejects.iter().map(shown).collect()
    }

    /// The codes of the good orders.
    pub(crate) fn codes(&self) -> Vec<&str> {
        self.orders.iter().map(|order| order.order.code().as_str()).collect()
    }
}

/// Imports a file, and checks what must hold for every file.
pub(crate) fn import(file: impl Read, options: &ReadOptions) -> Result<Outcome, ReadError> {
    let mut rejects = Vec::new();
    let parsed = import::read(
        file,
        options,
        &mut |reject| {
            rejects.push(Rejected {
                line: reject.line,
                order_code: reject.order_code.map(str::to_owned),
                column: reject.column.map(str::to_owned),
                value: String::from_utf8_lossy(reject.value).into_owned(),
                reason: reject.reason,
            });
            Ok(())
        },
        &mut |_| ControlFlow::Continue(()),
    )?;
    let orders: Vec<_> = parsed.grouped.orders().collect::<Result<_, _>>().expect("readable");
    let again: Vec<_> = parsed.grouped.orders().collect::<Result<_, _>>().expect("readable");
    assert_eq!(orders, again, "the orders are the same each time");
    assert!(orders.is_sorted_by(|one, two| one.first_line < two.first_line), "orders stand in order of appearance");
    assert_eq!(parsed.orders, orders.len() as u64);
    assert_eq!(parsed.accepted_rows, orders.iter().map(|order| order.rows() as u64).sum::<u64>());
    assert_eq!(parsed.rejected_rows, rejects.len() as u64);
    assert_eq!(parsed.accepted_rows + parsed.rejected_rows, parsed.rows);
    Ok(Outcome {
        rows: parsed.rows,
        accepted_rows: parsed.accepted_rows,
        rejected_rows: parsed.rejected_rows,
        rejected_orders: parsed.rejected_orders,
        sha256: parsed.sha256,
        form: parsed.form,
        warnings: parsed.warnings,
        orders,
        rejects,
        on_disk: parsed.grouped.is_on_disk(),
    })
}

/// Imports a text as usual.
pub(crate) fn import_text(text: impl AsRef<[u8]>) -> Outcome {
    import(text.as_ref(), &ReadOptions::default()).expect("readable")
}

/// Imports rows below the usual header.
pub(crate) fn import_rows(rows: impl AsRef<[u8]>) -> Outcome {
    import_text([HEADER.as_bytes(), rows.as_ref()].concat())
}
