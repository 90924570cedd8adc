//! The import as its callers see it: bytes in, orders and rejected rows out.

mod columns;
mod files;
mod memory;
mod orders;
mod outcome;
mod rows;
