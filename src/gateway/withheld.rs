//! A provider that this process may not call.

use futures::{FutureExt, future::BoxFuture};
use pipeline::gateway::{Charge, ChargeAnswer, Gateway, Return, ReturnAnswer};

/// Calls nobody: whatever is asked of it waits for a process that may.
#[derive(Debug)]
pub(super) struct Withheld {
    pub(super) name: String,
    /// Why, for people.
    pub(super) why: String,
}

impl Withheld {
    fn charges<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        async move { vec![ChargeAnswer::Unknown(self.why.clone()); charges.len()] }.boxed()
    }

    fn returns<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        async move { vec![ReturnAnswer::Unknown(self.why.clone()); returns.len()] }.boxed()
    }
}

impl Gateway for Withheld {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_pure(&self) -> bool {
        false
    }

    fn charge<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        self.charges(charges)
    }

    fn find_charges<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        self.charges(charges)
    }

    fn give_back<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        self.returns(returns)
    }

    fn find_returns<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        self.returns(returns)
    }
}
