//! Made-up orders as CSV in the layout that the import reads. The same options give the same bytes.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::decimal::{amount, digits};

/// What to make up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateOptions {
    /// Rows. There are a fifth as many orders, at least one, and each row is of one drawn at random: the rows of an
    /// order are scattered.
    pub rows: u64,
    /// Where chance begins.
    pub seed: u64,
    /// Exponent of the Zipf distribution of products: 0 is uniform, at 1 the first product is sold twice as often as
    /// the second.
    pub skew: f64,
    /// Customers, numbered from 1.
    pub customers: u64,
    /// Products, numbered from 1.
    pub products: u64,
    /// Whether each row draws its customer; otherwise all rows of an order name the same.
    pub mixed_customers: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { rows: 1_000_000, seed: 1, skew: 0.0, customers: 1_000, products: 200, mixed_customers: false }
    }
}

/// Rows for each order, on average.
const ROWS_PER_ORDER: u64 = 5;

/// Most products: with a skew each takes eight bytes of memory.
const PRODUCTS_MAX: u64 = 10_000_000;

/// Writes the file at `path`, or nothing there when it fails: the file gets its name once it is complete. One that is there is
/// written over only if `force` says so.
///
/// # Errors
/// When an option is out of bounds, the file is there, or the directory cannot be written.
pub fn write_file(path: &Path, options: &GenerateOptions, force: bool) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) if !force => return Err(io::ErrorKind::AlreadyExists.into()),
        // A device would be replaced by a file.
        Ok(there) if !there.is_file() => return Err(io::Error::other("it is there and no file")),
        _ => {}
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files are private by default; this one becomes an ordinary file, as the umask has it.
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
    write(file.as_file_mut(), options)?;
    file.as_file().sync_all()?;
    // It may have come into being meanwhile.
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Writes the file to `out`.
///
/// # Errors
/// When an option is out of bounds, or `out` cannot be written.
pub fn write(out: impl Write, options: &GenerateOptions) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(256 * 1024, out);
    let mut draw = Draw::new(options)?;
    out.write_all(b"id,order_code,customer_id,product_id,quantity,unit_price,total\n")?;
    let mut line = Vec::with_capacity(128);
    for id in 1..=options.rows {
        let order = draw.below(draw.orders);
        let customer = if options.mixed_customers { draw.below(options.customers) } else { draw.customer_of(order) };
        let product = draw.product();
        let quantity = 1 + draw.below(5);
        let cents = 100 + draw.below(4_901);

        line.clear();
        digits(&mut line, id, 1);
        line.extend_from_slice(b",ORD-");
        digits(&mut line, order + 1, 8);
        line.push(b',');
        digits(&mut line, customer + 1, 1);
        line.push(b',');
        digits(&mut line, product + 1, 1);
        line.push(b',');
        digits(&mut line, quantity, 1);
        line.push(b',');
        amount(&mut line, cents);
        line.push(b',');
        amount(&mut line, cents * quantity);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}

/// The dice. What they show is defined here and not by the version of a library, so that a file stays the same.
struct Draw {
    rng: ChaCha8Rng,
    seed: u64,
    orders: u64,
    customers: u64,
    products: u64,
    /// With a skew, for each product the share of 2^64 that falls to it and those before it.
    shares: Vec<u64>,
}

impl Draw {
    fn new(options: &GenerateOptions) -> io::Result<Self> {
        let &GenerateOptions { rows, seed, skew, customers, products, .. } = options;
        let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if customers == 0 || i64::try_from(customers).is_err() {
            return invalid("there must be at least one customer");
        }
        if products == 0 || products > PRODUCTS_MAX {
            return invalid("there must be 1 to 10,000,000 products");
        }
        if !(0.0..=10.0).contains(&skew) {
            return invalid("the skew must be from 0 to 10");
        }
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Ok(Self {
            rng: ChaCha8Rng::from_seed(key),
            seed,
            orders: (rows / ROWS_PER_ORDER).max(1),
            customers,
            products,
            shares: if skew > 0.0 { zipf(products, skew) } else { Vec::new() },
        })
    }

    /// A number from 0 to `bound` - 1, each as likely up to a rounding of `bound` in 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        scale(self.rng.next_u64(), bound)
    }

    fn product(&mut self) -> u64 {
        if self.shares.is_empty() {
            return self.below(self.products);
        }
        let drawn = self.rng.next_u64();
        let product = self.shares.partition_point(|&share| share <= drawn) as u64;
        product.min(self.products - 1)
    }

    /// The customer of an order: a function of order and seed, because its rows lie far apart.
    fn customer_of(&self, order: u64) -> u64 {
        scale(splitmix(splitmix(self.seed) ^ order), self.customers)
    }
}

/// Maps 64 random bits to a number below `bound`, without the division of a remainder.
fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// Shares of 2^64, summed up, where the k-th product weighs 1 / k^`skew`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are within 0 and 2^64")]
#[expect(clippy::cast_precision_loss, reason = "products are few enough to be exact")]
fn zipf(products: u64, skew: f64) -> Vec<u64> {
    let weight = |product: u64| (product as f64).powf(-skew);
    let all: f64 = (1..=products).map(weight).sum();
    let mut sum = 0.0;
    (1..=products)
        .map(|product| {
            sum += weight(product);
            (sum / all * 2.0_f64.powi(64)) as u64
        })
        .collect()
}

/// SplitMix64's finisher: neighbours in, far-apart numbers out.
fn splitmix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, ops::ControlFlow};

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::import::{self, Parsed, ReadOptions};

    fn generated(options: &GenerateOptions) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, options).expect("in memory");
        bytes
    }

    fn imported(bytes: &[u8]) -> Parsed {
        import::read(bytes, &ReadOptions::default(), &mut |_| Ok(()), &mut |_| ControlFlow::Continue(()))
            .expect("readable")
    }

    fn small() -> GenerateOptions {
        GenerateOptions { rows: 5_000, customers: 100, products: 20, ..GenerateOptions::default() }
    }

    #[test]
    fn the_same_options_give_the_same_bytes_for_ever() {
        let digest = |options| Sha256::digest(generated(&options))[..4].to_vec();
        assert_eq!(digest(small()), [49, 36, 177, 118]);
        assert_eq!(digest(GenerateOptions { skew: 1.1, seed: 2, ..small() }), [135, 224, 103, 89]);
        assert_ne!(digest(small()), digest(GenerateOptions { seed: 2, ..small() }));
    }

    #[test]
    fn what_is_made_up_can_be_imported() {
        let parsed = imported(&generated(&small()));
        assert_eq!((parsed.rows, parsed.accepted_rows), (5_000, 5_000));
        // Of a thousand codes that each row draws from, some are not drawn at all.
        assert!((950..=1_000).contains(&parsed.orders), "{}", parsed.orders);
        assert_eq!(parsed.warnings.orders_with_several_customers, 0);

        let parsed = imported(&generated(&GenerateOptions { mixed_customers: true, ..small() }));
        assert_eq!(parsed.accepted_rows, 5_000);
        assert!(parsed.warnings.orders_with_several_customers > 900);
    }

    #[test]
    fn few_rows_are_one_order_and_none_are_a_header() {
        assert_eq!(imported(&generated(&GenerateOptions { rows: 4, ..small() })).orders, 1);
        assert_eq!(imported(&generated(&GenerateOptions { rows: 0, ..small() })).rows, 0);
    }

    #[test]
    fn with_a_skew_the_first_product_sells_most() {
        let bytes = generated(&GenerateOptions { rows: 50_000, skew: 1.0, products: 100, ..small() });
        let mut sold: HashMap<String, f64> = HashMap::new();
        for line in String::from_utf8(bytes).expect("UTF-8").lines().skip(1) {
            *sold.entry(line.split(',').nth(3).expect("a product").to_owned()).or_default() += 1.0;
        }
        assert!((1.8..2.2).contains(&(sold["1"] / sold["2"])), "{} to {}", sold["1"], sold["2"]);
        assert!((8.0..12.0).contains(&(sold["1"] / sold["10"])), "{} to {}", sold["1"], sold["10"]);
    }

    #[test]
    fn options_out_of_bounds_are_refused() {
        for options in [
            GenerateOptions { customers: 0, ..small() },
            GenerateOptions { products: 0, ..small() },
            GenerateOptions { skew: -1.0, ..small() },
            GenerateOptions { skew: f64::NAN, ..small() },
        ] {
            assert_eq!(write(io::sink(), &options).expect_err("refused").kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_file_is_complete_or_absent() {
        let dir = tempfile::tempdir().expect("writable");
        let path = dir.path().join("orders.csv");
        assert!(write_file(&path, &GenerateOptions { products: 0, ..small() }, false).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
        write_file(&path, &small(), false).expect("writable");
        assert_eq!(std::fs::read(&path).expect("readable"), generated(&small()));
        std::fs::write(&path, "mine").expect("writable");
        let there = write_file(&path, &small(), false).expect_err("it is there");
        assert_eq!(there.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("readable"), b"mine");
        write_file(&path, &small(), true).expect("forced");
        assert_eq!(std::fs::read(&path).expect("readable"), generated(&small()));
    }
}
