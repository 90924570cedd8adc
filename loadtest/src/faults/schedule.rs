//! Which fault comes when: chance with a seed, so that a run can be repeated.

use std::time::Duration;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::kinds::Kind;

/// A fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// How long after the one before is over.
    pub(super) after: Duration,
    /// What it is.
    pub(super) kind: Kind,
}

/// So many of each kind in a random sequence, with pauses of `gap` on average.
pub(super) fn plan(counts: &[(Kind, u32)], gap: Duration, seed: u64) -> Vec<Planned> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut kinds: Vec<Kind> =
        counts.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count as usize)).collect();
    kinds.shuffle(&mut rng);
    kinds.into_iter().map(|kind| Planned { after: pause(gap, &mut rng), kind }).collect()
}

/// A pause from nothing to twice `mean`.
pub(super) fn pause(mean: Duration, rng: &mut ChaCha8Rng) -> Duration {
    mean.mul_f64(rng.random_range(0.0..2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: [(Kind, u32); 3] = [(Kind::RunKill, 200), (Kind::RedisKill, 50), (Kind::PostgresKill, 0)];

    #[test]
    fn every_fault_is_in_the_plan_as_often_as_asked() {
        let plan = plan(&COUNTS, Duration::from_secs(1), 1);
        assert_eq!(plan.len(), 250);
        for (kind, count) in COUNTS {
            assert_eq!(plan.iter().filter(|planned| planned.kind == kind).count(), count as usize);
        }
        let first_half = plan[..125].iter().filter(|planned| planned.kind == Kind::RedisKill).count();
        assert!((10..40).contains(&first_half), "they are mixed: {first_half}");
    }

    #[test]
    fn pauses_are_as_long_as_asked_on_average() {
        let plan = plan(&COUNTS, Duration::from_secs(1), 1);
        let mean = plan.iter().map(|planned| planned.after.as_secs_f64()).sum::<f64>() / plan.len() as f64;
        assert!((0.9..1.1).contains(&mean), "{mean}");
        assert!(plan.iter().all(|planned| planned.after < Duration::from_secs(2)));
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        let of_seed = |seed| plan(&COUNTS, Duration::from_secs(1), seed);
        assert_eq!(of_seed(3), of_seed(3));
        assert_ne!(of_seed(3), of_seed(4));
    }
}
