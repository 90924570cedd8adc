//! Who takes the money is a fact of the installation: whichever process works, each order is charged once, by the provider and
//! in the currency that the installation had, and the ledgers of all providers agree with the books.

mod earlier;
mod installed;
mod keys;
mod moved;
mod told;
mod turns;
