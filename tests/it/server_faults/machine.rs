//! A machine that vanishes: a network namespace with a wire to this one, whose ends stop to find each other. Nothing is
//! refused and nothing is closed; packets get lost.

use std::process::Command;

use nix::unistd::Uid;

use super::Work;
use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, random},
};

/// A relay, a reconciler, a notifier, and whoever else leads by a lock.
const ROLES_MIN: i64 = 3;

/// Another machine, as far as the network is concerned.
struct Machine {
    name: String,
    /// Our end of the wire.
    wire: String,
    /// Our address on it, and that of the machine.
    ours: String,
    theirs: String,
}

impl Machine {
    fn new() -> Self {
        let id = random();
        let [.., x, y, z] = id.to_be_bytes();
        // A network of four addresses, of those for tests of networks.
        let (net, host) = (format!("198.{}.{y}", 18 + x % 2), z & 0xfc);
        let machine = Self {
            name: format!("orderstream-{:08x}", id >> 32),
            wire: format!("os{:08x}", id >> 32),
            ours: format!("{net}.{}", host + 1),
            theirs: format!("{net}.{}", host + 2),
        };
        let Self { name, wire, ours, theirs } = &machine;
        ip(&["netns", "add", name]);
        ip(&["link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name]);
        ip(&["addr", "add", &format!("{ours}/30"), "dev", wire]);
        ip(&["link", "set", wire, "up"]);
        ip(&["-n", name, "addr", "add", &format!("{theirs}/30"), "dev", "eth0"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        machine
    }

    /// Starts the program there; Redis is reached by its socket, Postgres over the wire.
    async fn start(&self, program: &Program, args: &[&str]) -> Running {
        let database: String = program.stack.value("SELECT current_database()::text").await;
        let command = program.command(args);
        let plain = command.as_std();
        let mut inside = as_root("ip");
        inside.args(["netns", "exec", &self.name]).arg("env");
        for (name, _) in plain.get_envs().filter(|(_, value)| value.is_none()) {
            inside.args(["-u".as_ref(), name]);
        }
        for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            inside.arg(format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        }
        inside.arg(format!("DATABASE_URL=postgres://orderstream@{}/{database}?sslmode=disable", self.ours));
        inside.arg(plain.get_program()).args(plain.get_args());
        let mut inside = tokio::process::Command::from(inside);
        inside.kill_on_drop(true).current_dir(program.folder());
        inside.stdin(std::process::Stdio::null());
        inside.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        Running::spawn(&mut inside, args)
    }

    /// From now on every packet between the two goes to nobody.
    fn vanish(&self) {
        let nobody = ["lladdr", "02:00:00:00:00:99", "nud", "permanent"];
        ip(&[&["neigh", "replace", &self.theirs, "dev", &self.wire][..], &nobody].concat());
        ip(&[&["-n", &self.name, "neigh", "replace", &self.ours, "dev", "eth0"][..], &nobody].concat());
    }

    fn come_back(&self) {
        ip(&["neigh", "del", &self.theirs, "dev", &self.wire]);
        ip(&["-n", &self.name, "neigh", "del", &self.ours, "dev", "eth0"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The wire goes with it.
        drop(as_root("ip").args(["netns", "del", &self.name]).status());
    }
}

fn as_root(program: &str) -> Command {
    if Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn ip(args: &[&str]) {
    let done = as_root("ip").args(args).output().expect("iproute2: scripts/setup.sh installs it");
    assert!(done.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
}

/// The connections between the two, as `ss` lists them at one end.
fn connections(mut ss: Command, theirs: &str) -> Vec<String> {
    let listed = ss.args(["-Htno", "state", "established"]).output().expect("iproute2: scripts/setup.sh installs it");
    let lines = String::from_utf8_lossy(&listed.stdout).into_owned();
    lines.lines().filter(|line| line.contains(theirs)).map(str::to_owned).collect()
}

/// How many of the locks of leaders are held by sessions of which this holds.
async fn locks(work: &Work, condition: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND granted AND {condition}"
    );
    work.program.stack.value(&query).await
}

const RUN: [&str; 9] =
    ["run", "--json", "--batch", "20", "--claim-idle", "1", "--reconcile-every", "1", "--notify=log"];

/// Whether all that is led is led by sessions of which this holds.
async fn leads(work: &Work, condition: &str) -> bool {
    locks(work, condition).await >= ROLES_MIN && locks(work, &format!("NOT ({condition})")).await == 0
}

/// Work whose every lock is held by a process on another machine, and a process here that waits for them.
async fn led_from_elsewhere() -> (Machine, Work, Running, Running) {
    let machine = Machine::new();
    let program = Program::alone_at(&machine.ours, super::CUSTOMERS, &super::STOCKS).await;
    let mut work = Work { program, orders: Vec::new() };
    let elsewhere = machine.start(&work.program, &RUN).await;
    eventually("the other machine leads", async || leads(&work, "client_addr IS NOT NULL").await).await;
    let here = work.program.start(&RUN);
    work.publish("A", 100).await;
    work.drained().await;
    (machine, work, elsewhere, here)
}

#[tokio::test]
async fn the_kernels_of_both_sides_watch_over_every_connection_to_postgres() {
    let (machine, work, elsewhere, here) = led_from_elsewhere().await;
    let inside = || {
        let mut ss = as_root("ip");
        ss.args(["netns", "exec", &machine.name, "ss"]);
        ss
    };
    eventually("each has keepalive", async || {
        let ends = [connections(inside(), &machine.theirs), connections(as_root("ss"), &machine.theirs)];
        // One that sends something at this moment has another timer.
        ends.iter().all(|end| end.len() > 3 && end.iter().all(|line| line.contains("timer:(keepalive,")))
    })
    .await;
    elsewhere.stop().await.exits(0);
    work.ends(here).await;
}

#[tokio::test]
async fn what_a_machine_that_vanished_did_alone_another_one_takes_over() {
    let (machine, mut work, elsewhere, here) = led_from_elsewhere().await;
    machine.vanish();
    elsewhere.crash().await;
    work.publish("B", 100).await;
    eventually("somebody here leads", async || leads(&work, "client_addr IS NULL").await).await;
    let told = "SELECT count(*) FROM notifications WHERE status <> 'sent'";
    work.drained().await;
    eventually("everybody is told", async || work.program.stack.value::<i64>(told).await == 0).await;
    work.ends(here).await;
}

#[tokio::test]
async fn a_process_that_loses_its_way_to_postgres_stops_to_lead_and_gets_on_when_it_is_back() {
    let (machine, mut work, elsewhere, here) = led_from_elsewhere().await;
    machine.vanish();
    elsewhere.says("Postgres failed; trying again until it is back").await;
    eventually("somebody here leads", async || leads(&work, "client_addr IS NULL").await).await;
    machine.come_back();
    elsewhere.says("Postgres is back").await;
    work.publish("B", 100).await;
    here.stop().await.exits(0);
    eventually("the other machine leads again", async || leads(&work, "client_addr IS NOT NULL").await).await;
    work.publish("C", 100).await;
    work.ends(elsewhere).await;
}
