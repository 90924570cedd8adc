//! Every fault of the provider is seen to hit whom it should, and the client says of it what it should.

use std::time::Duration;

use orderstream::provider::{Fault, Faults};
use pipeline::gateway::{Charge, ChargeAnswer, Gateway, ReturnAnswer, Simulator};

use crate::program::{
    harness::eventually,
    provider::{Provider, charges, client, refund},
};

const SEED: u64 = 7;

fn decided(charge: &Charge, answer: &ChargeAnswer) -> bool {
    let simulator = Simulator::new(0.8, Duration::ZERO).expect("a rate");
    match simulator.approves(&charge.reference) {
        true => matches!(answer, ChargeAnswer::Approved(_)),
        false => matches!(answer, ChargeAnswer::Declined(_)),
    }
}

#[tokio::test]
async fn every_fault_hits_whom_the_seed_foretells_and_nothing_is_charged_twice() {
    let args = ["--seed", "7", "--approve", "0.8", "--pending", "0.2", "--timeouts", "0.1", "--errors", "0.1"];
    let provider =
        Provider::start(&[&args[..], &["--callback-after", "0", "--jitter", "5", "--latency", "5"]].concat()).await;
    let faults = Faults::none(SEED).with(Fault::Pending, 0.2).with(Fault::Timeouts, 0.1).with(Fault::Errors, 0.1);
    let client = client(&provider.url, |settings| settings.timeout = Duration::from_secs(2));
    let charges = charges(0..150);

    let mut seen = [0; 5];
    for (charge, answer) in charges.iter().zip(client.charge(&charges).await) {
        let hit = |fault| faults.hit(fault, &charge.reference);
        let (kind, right) = match &answer {
            ChargeAnswer::Unknown(why) if hit(Fault::Errors) => (0, why.contains("500")),
            ChargeAnswer::Unknown(why) => (1, why.contains("no answer") && hit(Fault::Timeouts)),
            ChargeAnswer::Pending(_) => (2, hit(Fault::Pending) && !hit(Fault::Timeouts)),
            ChargeAnswer::Approved(_) => (3, decided(charge, &answer) && !faults.is_pending(&charge.reference)),
            ChargeAnswer::Declined(_) => (4, decided(charge, &answer) && !faults.is_pending(&charge.reference)),
            ChargeAnswer::Absent => (0, false),
        };
        assert!(right, "{}: {answer:?}", charge.reference);
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|&seen| seen > 0), "{seen:?}");

    // Asked what became of them: nothing of the errors, all that timed out.
    for (charge, answer) in charges.iter().zip(client.find_charges(&charges).await) {
        match faults.hit(Fault::Errors, &charge.reference) {
            true => assert_eq!(answer, ChargeAnswer::Absent, "{}", charge.reference),
            false => assert!(decided(charge, &answer) || matches!(answer, ChargeAnswer::Pending(_)), "{answer:?}"),
        }
    }

    // Charged again, whoever it is, until all are decided: once each.
    client.charge(&charges).await;
    client.charge(&charges).await;
    eventually("all charges are decided", async || {
        let answers = client.find_charges(&charges).await;
        charges.iter().zip(&answers).all(|(charge, answer)| decided(charge, answer))
    })
    .await;
    let ledger = provider.ledger().await;
    assert_eq!(ledger.len(), charges.len());
    assert!(ledger.values().all(|of_reference| of_reference.len() == 1));
}

#[tokio::test]
async fn refunds_fail_as_foretold_and_never_exceed_their_charge() {
    let args = ["--seed", "7", "--approve", "1", "--refund-failures", "0.3"];
    let provider = Provider::start(&args).await;
    let faults = Faults::none(SEED).with(Fault::RefundFailures, 0.3);
    let client = provider.client();
    let charges = charges(0..40);
    client.charge(&charges).await;
    let refunds: Vec<_> =
        charges.iter().enumerate().map(|(n, charge)| refund(&format!("r-{n}"), &charge.reference, 3998)).collect();
    assert_eq!(client.find_returns(&refunds).await, vec![ReturnAnswer::Absent; refunds.len()]);

    let answers = client.give_back(&refunds).await;
    let mut failed = 0;
    for (refund, answer) in refunds.iter().zip(&answers) {
        let right = match faults.hit(Fault::RefundFailures, &refund.reference) {
            true => matches!(answer, ReturnAnswer::Failed(_)),
            false => matches!(answer, ReturnAnswer::Succeeded(_)),
        };
        assert!(right, "{}: {answer:?}", refund.reference);
        failed += usize::from(matches!(answer, ReturnAnswer::Failed(_)));
    }
    assert!(failed > 0 && failed < refunds.len());
    assert_eq!(client.give_back(&refunds).await, answers, "the same keys");
    assert_eq!(client.find_returns(&refunds).await, answers);

    // What failed left its charge whole; what succeeded left nothing.
    let more: Vec<_> =
        charges.iter().enumerate().map(|(n, charge)| refund(&format!("more-{n}"), &charge.reference, 1)).collect();
    for ((first, second), answer) in refunds.iter().zip(&more).zip(client.give_back(&more).await) {
        let whole = faults.hit(Fault::RefundFailures, &first.reference);
        match answer {
            ReturnAnswer::Unknown(why) => assert!(!whole && why.contains("422"), "{}: {why}", second.reference),
            answer => assert!(whole, "{}: {answer:?}", second.reference),
        }
    }
}

/// One of a reference that a fault hits, and none of the others do.
pub(crate) fn hit_by(faults: &Faults, fault: Fault) -> String {
    let others = [Fault::Lost, Fault::Doubled, Fault::Early, Fault::Late];
    let alone = |reference: &String| others.iter().all(|other| faults.hit(*other, reference) == (*other == fault));
    (0..).map(|number| format!("ORD-{number}")).find(alone).expect("there is always another")
}
