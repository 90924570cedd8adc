//! The import as its callers see it: bytes in, orders and rejected rows out.

#[path = "import/columns.rs"]
mod columns;
#[path = "import/files.rs"]
mod files;
#[path = "import/memory.rs"]
mod memory;
#[path = "import/orders.rs"]
mod orders;
#[path = "import/outcome.rs"]
mod outcome;
#[path = "import/rows.rs"]
mod rows;
