//! The bodies of the fuzz targets, over their seeds, mutated seeds and random bytes. `make fuzz` looks harder.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use std::{fs, path::Path};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Inputs of each target.
const ROUNDS: u64 = 1_500;

fn mutated(seed: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.next_u32() % 8 {
        let at = |random: &mut ChaCha8Rng, len: usize| random.next_u32() as usize % len.max(1);
        match random.next_u32() % 4 {
            0 if !bytes.is_empty() => {
                let place = at(random, bytes.len());
                bytes[place] = random.next_u32().to_le_bytes()[0];
            }
            1 => {
                let place = at(random, bytes.len() + 1);
                bytes.insert(place, b",\n\".0;{}"[at(random, 8)]);
            }
            2 if !bytes.is_empty() => {
                bytes.remove(at(random, bytes.len()));
            }
            _ => {
                let (from, to) = (at(random, bytes.len()), at(random, bytes.len()));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_from_outside_break_what_reads_them() {
    for (name, body) in bodies::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let mut seeds: Vec<Vec<u8>> = fs::read_dir(folder)
            .expect("the seeds")
            .map(|file| fs::read(file.expect("an entry").path()).expect("a seed"))
            .collect();
        seeds.sort();
        assert!(seeds.len() >= 2, "{name}");
        for seed in &seeds {
            body(seed);
        }
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for round in 0..ROUNDS {
            let seed = &seeds[usize::try_from(round).expect("small") % seeds.len()];
            body(&mutated(seed, &mut random));
            let mut noise = vec![0; random.next_u32() as usize % 64];
            random.fill_bytes(&mut noise);
            body(&noise);
        }
    }
}
