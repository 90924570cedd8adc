//! Who used the processor: `/proc` before and after, so that measuring costs nothing in between.

use std::{collections::HashMap, fs, io, process, time::Instant};

/// Kernel clock ticks per second in `/proc`: `USER_HZ`, 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Whose processor time is of interest. What runs on another machine is `None`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roots {
    /// The postmaster.
    pub(crate) postgres: Option<u32>,
    /// The Redis server.
    pub(crate) redis: Option<u32>,
    /// The processes of orderstream.
    pub(crate) program: Vec<u32>,
}

impl Roots {
    /// Keeps a server's process only if it is one of this machine: the id may come from another.
    pub(crate) fn new(postgres_backend: u32, redis: Option<u32>, program: Vec<u32>) -> io::Result<Self> {
        let processes = Processes::read()?;
        let postgres = processes
            .named(postgres_backend, "postgres")
            .and_then(|backend| processes.named(backend.parent, "postgres").map(|_| backend.parent));
        let redis = redis.filter(|&pid| processes.named(pid, "redis-server").is_some());
        Ok(Self { postgres, redis, program })
    }
}

/// Processor seconds used so far, by whom.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// When it was read.
    pub(crate) at: Instant,
    /// Postgres with all its backends, those that have ended included.
    pub(crate) postgres: Option<f64>,
    /// Redis with its children.
    pub(crate) redis: Option<f64>,
    /// orderstream, without the servers that it may have started.
    pub(crate) program: Option<f64>,
    /// This process.
    pub(crate) load_generator: f64,
    /// Everything on the machine.
    pub(crate) busy: f64,
    /// What a hypervisor gave to others.
    pub(crate) stolen: f64,
    /// Cores of the machine.
    pub(crate) cores: usize,
}

impl Usage {
    /// Reads the processes under `roots` and the machine's totals.
    pub(crate) fn read(roots: &Roots) -> io::Result<Self> {
        let processes = Processes::read()?;
        let servers: Vec<u32> = roots.postgres.into_iter().chain(roots.redis).collect();
        let program: Vec<f64> = roots.program.iter().filter_map(|&pid| processes.tree_seconds(pid, &servers)).collect();
        let (busy, stolen, cores) = machine(&fs::read_to_string("/proc/stat")?);
        Ok(Self {
            at: Instant::now(),
            postgres: roots.postgres.and_then(|pid| processes.tree_seconds(pid, &[])),
            redis: roots.redis.and_then(|pid| processes.tree_seconds(pid, &[])),
            program: (!program.is_empty()).then(|| program.iter().sum()),
            load_generator: processes.0.get(&process::id()).map_or(0.0, |me| me.own_ticks as f64 / TICKS_PER_SECOND),
            busy,
            stolen,
            cores,
        })
    }
}

/// Busy and stolen seconds, and the number of cores, from `/proc/stat`.
fn machine(stat: &str) -> (f64, f64, usize) {
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .map(|line| line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let sum =
        |fields: &[usize]| fields.iter().filter_map(|&field| ticks.get(field)).sum::<u64>() as f64 / TICKS_PER_SECOND;
    let cores = stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
    (sum(&[0, 1, 2, 5, 6]), sum(&[7]), cores)
}

/// One process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    name: String,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    waited_ticks: u64,
}

impl Process {
    /// Reads `/proc/<pid>/stat`. The name stands in parentheses and may itself contain some.
    fn parse(stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            name: head.split_once('(')?.1.to_owned(),
            own_ticks: ticks(11)? + ticks(12)?,
            waited_ticks: ticks(13)? + ticks(14)?,
        })
    }
}

/// All processes of the machine.
struct Processes(HashMap<u32, Process>);

impl Processes {
    fn read() -> io::Result<Self> {
        let processes = fs::read_dir("/proc")?.filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // A process may end between the listing and the reading.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, Process::parse(&stat)?))
        });
        Ok(Self(processes.collect()))
    }

    fn named(&self, pid: u32, name: &str) -> Option<&Process> {
        self.0.get(&pid).filter(|process| process.name.starts_with(name))
    }

    /// Seconds of a process and all its descendants, living or waited for, without the trees under `except`.
    fn tree_seconds(&self, root: u32, except: &[u32]) -> Option<f64> {
        self.0.get(&root)?;
        let mut ticks = 0;
        let mut open = vec![root];
        while let Some(pid) = open.pop() {
            if let Some(process) = self.0.get(&pid) {
                ticks += process.own_ticks + process.waited_ticks;
            }
            let children = self.0.iter().filter(|(child, process)| process.parent == pid && !except.contains(child));
            open.extend(children.map(|(&child, _)| child));
        }
        Some(ticks as f64 / TICKS_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, own_ticks: u64, waited_ticks: u64) -> Process {
        Process { parent, name: "x".to_owned(), own_ticks, waited_ticks }
    }

    #[test]
    fn a_name_may_contain_blanks_and_parentheses() {
        let stat = "42 (a) b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 9 9";
        let expected = Process { parent: 7, name: "a) b".to_owned(), own_ticks: 120, waited_ticks: 7 };
        assert_eq!(Process::parse(stat), Some(expected));
    }

    #[test]
    fn a_tree_is_summed_without_its_exceptions() {
        let processes = Processes(HashMap::from([
            (1, process(0, 1_000, 0)),
            (2, process(1, 100, 10)),
            (3, process(2, 20, 0)),
            (4, process(2, 500, 0)),
            (5, process(4, 500, 0)),
        ]));
        assert_eq!(processes.tree_seconds(2, &[4]), Some(1.3));
        assert_eq!(processes.tree_seconds(9, &[]), None);
    }

    #[test]
    fn the_machine_is_read_from_its_first_line() {
        let stat = "cpu  100 0 50 900 30 5 5 40 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n";
        assert_eq!(machine(stat), (1.6, 0.4, 2));
    }

    #[test]
    fn this_process_is_found() {
        let usage = Usage::read(&Roots { program: vec![process::id()], ..Roots::default() }).expect("/proc");
        assert!(usage.program.is_some() && usage.busy > 0.0 && usage.cores > 0);
    }
}
