//! What an application brings of its own: messages between master and workers, a balancer, weights
//! that change while the pool runs. The application stands below the cases.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::raw;
use crate::server::{Server, eventually};
use ringfort::balancer::{Balancer, Client, Load, Weighted, Weights};
use ringfort::channel::{Map, MasterMail, Message, MessageType};
use ringfort::http::{Request, Response};
use ringfort::{Error, Pool, WorkerInfo};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::panic_any;
use std::process::{Command, ExitCode};
use std::rc::Rc;

pub(crate) const CASES: &[Case] = &[
    ("messages::shared::the_master_answers_and_tells_all", || answers("shared")),
    ("messages::centralized::the_master_answers_and_tells_all", || answers("centralized")),
    ("messages::a_hook_that_panics_is_called_again", panics),
    ("messages::an_event_hook_that_panics_is_called_again", event_panics),
    ("messages::p2_the_limit_of_messages_acts", p2_the_limit_of_messages_acts),
    ("messages::p1_what_a_worker_says_reaches_the_master", p1_reaches_the_master),
    ("messages::garbage_on_the_stream_replaces_the_worker", garbage),
    ("messages::the_last_message_before_a_drain_arrives", last_words),
    ("messages::a_worker_that_is_gone_gets_nothing_and_that_is_told", nobody_there),
    ("messages::a_balancer_of_the_application_picks", own_balancer),
    ("messages::weights_set_in_a_worker_act_in_the_master", live_weights),
];

/// What makes this program the application.
pub(crate) const FLAG: &str = "--application";

fn start(options: &str) -> Server {
    let mut command = Command::new(std::env::current_exe().expect("our path"));
    command.arg(FLAG).args(options.split_whitespace()).env_clear();
    let server = Server::launch(&mut command);
    server.await_ready(2);
    server
}

fn event_panics() {
    let server = start("--events panic");
    assert_eq!(server.connect().get("/slot").expect("an answer").status, 200);
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("worker ended").count(), 2, "{log}");
}

/// A connection to the worker of this slot.
fn to_slot(server: &Server, slot: &str) -> crate::client::Client {
    eventually("a connection to the slot", PATIENCE, || {
        let mut client = server.connect();
        (client.get("/slot").expect("an answer").text() == slot).then_some(client)
    })
}

fn text(client: &mut crate::client::Client, path: &str) -> String {
    client.get(path).expect("an answer").text()
}

#[track_caller]
fn await_got(client: &mut crate::client::Client, want: &str) {
    let mut got = String::new();
    eventually(want, PATIENCE, || {
        got = text(client, "/got");
        got.contains(want).then_some(())
    });
}

fn answers(mode: &str) {
    let server = start(&format!("--mode {mode}"));
    let (mut zero, mut one) = (to_slot(&server, "0"), to_slot(&server, "1"));
    assert_eq!(text(&mut zero, "/send/echo"), "sent");
    await_got(&mut zero, "echo from 0: 0 bytes");
    assert_eq!(text(&mut one, "/got"), "", "an answer to one is for one");
    assert_eq!(text(&mut one, "/send/all"), "sent");
    await_got(&mut zero, "all from 1: 0 bytes");
    await_got(&mut one, "all from 1: 0 bytes");
    // More than a socket holds, and the largest there may be.
    assert_eq!(text(&mut zero, "/send/echo/1000000"), "sent");
    await_got(&mut zero, "echo from 0: 1000000 bytes");
    let refused = text(&mut zero, "/send/echo/1048576");
    assert!(refused.contains("at most 1048576"), "{refused}");
    assert_eq!(server.stop().0, Some(0));
}

/// P1 of the original: nothing reported from worker to master ever existed.
fn p1_reaches_the_master() {
    let server = start("");
    let mut client = to_slot(&server, "1");
    assert_eq!(text(&mut client, "/send/metrics/3"), "sent");
    server.await_log("the master heard metrics from 1: 3 bytes");
    assert_eq!(server.stop().0, Some(0));
}

/// P2 of the original: its limit of messages was an option that no code read.
fn p2_the_limit_of_messages_acts() {
    let server = start("--message-max 2000");
    let mut client = to_slot(&server, "0");
    assert_eq!(text(&mut client, "/send/echo/1800"), "sent");
    await_got(&mut client, "echo from 0: 1800 bytes");
    let refused = text(&mut client, "/send/echo/2000");
    assert!(refused.contains("at most 2000"), "{refused}");
}

fn panics() {
    let server = start("");
    let mut client = to_slot(&server, "0");
    assert_eq!(text(&mut client, "/send/panic"), "sent");
    server.await_log("the application's hook panicked at a message: slot=0");
    assert_eq!(text(&mut client, "/send/echo"), "sent");
    await_got(&mut client, "echo from 0");
    assert_eq!(text(&mut client, "/send/break"), "sent");
    // The worker's hook panics at the answer, is counted, and the worker goes on.
    eventually("a panic", PATIENCE, || (text(&mut client, "/panics") == "1").then_some(()));
    assert_eq!(text(&mut client, "/send/echo"), "sent");
    eventually("an answer", PATIENCE, || {
        (text(&mut client, "/got").matches("echo").count() == 2).then_some(())
    });
    assert_eq!(server.stop().0, Some(0));
}

fn garbage() {
    let server = start("");
    let mut client = to_slot(&server, "0");
    let pid: u32 = text(&mut client, "/pid").parse().expect("a number");
    assert_eq!(text(&mut client, "/garbage"), "written");
    server.await_log("bad message: application message: a message without a byte");
    eventually("another worker", PATIENCE, || (!server.workers().contains(&pid)).then_some(()));
    server.await_ready(3);
    let mut client = to_slot(&server, "0");
    assert_eq!(text(&mut client, "/send/echo"), "sent");
    await_got(&mut client, "echo from 0");
}

fn last_words() {
    let server = start("");
    let mut client = to_slot(&server, "1");
    // The handler sends while its worker drains: the answer is its last act.
    client.ask("/slowly/goodbye/500000").expect("it takes requests");
    server.await_log("the master heard slowly from 1");
    let (code, log) = server.stop();
    assert_eq!((client.reply().expect("an answer").text().as_str(), code), ("sent", Some(0)));
    assert!(log.contains("the master heard goodbye from 1: 500000 bytes"), "{log}");
}

fn nobody_there() {
    let server = start("");
    let mut client = to_slot(&server, "0");
    assert_eq!(text(&mut client, "/send/stranger"), "sent");
    server.await_log("message lost: slot=77: no worker serves in this slot");
}

fn own_balancer() {
    let server = start("--balancer last");
    let slots: BTreeSet<String> = (0..6).map(|_| text(&mut server.connect(), "/slot")).collect();
    assert_eq!(slots, BTreeSet::from(["1".to_owned()]));
    server.await_log("worker 1 has had connections");
}

fn live_weights() {
    let server = start("--balancer weighted");
    let slots =
        || -> Vec<String> { (0..8).map(|_| text(&mut server.connect(), "/slot")).collect() };
    assert_eq!(slots(), ["0"; 8]);
    assert_eq!(text(&mut server.connect(), "/weigh/1/1"), "1 1");
    assert_eq!(text(&mut server.connect(), "/weigh/0/0"), "0 1");
    assert_eq!(slots(), ["1"; 8]);
    assert_eq!(text(&mut server.connect(), "/weigh/0/3"), "3 1");
    let zeros = slots().iter().filter(|slot| *slot == "0").count();
    assert_eq!(zeros, 6, "three of four");
}

/// The application.
pub(crate) fn run(options: impl Iterator<Item = String>) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("application: {error}\nhint: {}", error.hint());
            ExitCode::FAILURE
        }
    }
}

/// Everything to the last one that has room.
struct Last;

impl Balancer for Last {
    fn pick(&mut self, _: &Client<'_>, loads: &[Load]) -> Option<usize> {
        loads.iter().rposition(|load| load.room > 0)
    }

    fn on_established(&mut self, worker: usize, _: u64) {
        eprintln!("worker {worker} has had connections");
    }
}

#[expect(clippy::unwrap_in_result, reason = "a case that gets its own options wrong fails")]
fn serve(mut options: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut pool = Pool::bind("127.0.0.1:0").workers(2);
    let weights = Weights::new(&[1, 0])?;
    let mut panics = false;
    while let (Some(flag), Some(value)) = (options.next(), options.next()) {
        pool = match (flag.as_str(), value.as_str()) {
            ("--mode", "shared") => pool.mode(ringfort::Mode::Shared),
            ("--mode", _) => pool.mode(ringfort::Mode::Centralized),
            ("--message-max", max) => {
                let max = max.parse().expect("a number");
                pool.limits(|set| set.message_max(max).map(drop))
            }
            ("--events", _) => {
                panics = true;
                pool
            }
            ("--balancer", "last") => pool.balancer(Last),
            (_, _) => pool.balancer(Weighted::new(weights)),
        };
    }
    let mail = MasterMail::new();
    let copy = mail.clone();
    mail.on_message(move |slot, message| heard(&copy, slot, &message));
    pool.messages(&mail)
        .on_started(|started| println!("url      http://{}/\n", started.addresses[0]))
        .on_event(move |event| {
            eprintln!("{event}");
            if panics {
                panic_any(Bad);
            }
        })
        .serve_with(move |worker| handler(worker, weights))
}

/// Panics once more when it is dropped.
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("as asked");
    }
}

/// In the master.
fn heard(mail: &MasterMail, slot: u32, message: &Message) {
    let kind = message.kind.name();
    let size = message.data.get("text").and_then(|text| text.as_str()).map_or(0, str::len);
    eprintln!("the master heard {kind} from {slot}: {size} bytes");
    let mut answer = message.clone();
    answer.data.insert("from".to_owned(), slot.into());
    let sent = match kind {
        "echo" | "break" => mail.send(slot, &answer),
        "all" => mail.broadcast(&answer),
        "stranger" => mail.send(77, &answer),
        "panic" => panic!("as asked"),
        _ => Ok(()),
    };
    sent.expect("there is room");
}

/// In a worker.
fn handler(
    worker: &WorkerInfo,
    weights: Weights,
) -> impl FnMut(&Request<'_>, &mut Response) + use<> {
    let (mail, worker) = (worker.mail(), worker.clone());
    let got = Rc::new(RefCell::new(String::new()));
    let heard = Rc::clone(&got);
    mail.on_message(move |message| {
        assert_ne!(message.kind.name(), "break", "as asked");
        let size = message.data.get("text").and_then(|text| text.as_str()).map_or(0, str::len);
        let (kind, from) = (message.kind.name(), &message.data["from"]);
        *heard.borrow_mut() += &format!("{kind} from {from}: {size} bytes\n");
    });
    move |request, response| {
        let path: Vec<&str> = request.path().split('/').skip(1).collect();
        let message = |kind: &str, size: &str| {
            let mut data = Map::new();
            let size = size.parse().expect("a number");
            if size > 0 {
                data.insert("text".to_owned(), "x".repeat(size).into());
            }
            Message::new(MessageType::Other(kind.to_owned()), data, 0.0)
        };
        let send = |kind: &str, size: &str| match mail.send(&message(kind, size)) {
            Ok(()) => "sent".to_owned(),
            Err(error) => error.to_string(),
        };
        match path[..] {
            ["slot"] => response.text(worker.slot().to_string()),
            ["pid"] => response.text(std::process::id().to_string()),
            ["got"] => response.text(got.borrow().clone()),
            ["panics"] => {
                let own = worker.workers().into_iter().find(|w| w.slot == worker.slot());
                let panics = own.map(|w| w.counter(ringfort::stats::Counter::HandlerPanics));
                response.text(panics.unwrap_or(0).to_string());
            }
            ["send", kind] => response.text(send(kind, "0")),
            ["send", kind, size] => response.text(send(kind, size)),
            ["slowly", kind, size] => {
                send("slowly", "0");
                let (mail, message) = (mail.clone(), message(kind, size));
                response.after(std::time::Duration::from_millis(300), move |response| {
                    response.text(if mail.send(&message).is_ok() { "sent" } else { "not sent" });
                });
            }
            ["garbage"] => {
                raw::write_to_streams(&[0; 4]);
                response.text("written");
            }
            ["weigh", slot, weight] => {
                weights.set(slot.parse().expect("a number"), weight.parse().expect("a number"));
                response.text(format!("{} {}", weights.get(0), weights.get(1)));
            }
            _ => response.plain(404),
        }
    }
}
