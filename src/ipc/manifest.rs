//! What one program hands to the next when a binary is replaced: which descriptors are what, and
//! all that the master knew. Pure; JSON, so that programs of different versions can read it.
//!
//! A field that is missing is read as `null`: a later version may add optional fields and lists
//! without raising [`VERSION`], and an older program leaves out what it does not know.

use serde_json::{Map, Value};

/// Of the manifest's meaning. A program refuses another one than its own.
pub const VERSION: u32 = 1;
/// Under which name the environment says where it is.
pub const VARIABLE: &str = "RINGFORT_UPGRADE";
/// Most bytes of a manifest: a hundred for each of 500,000 connections.
pub const BYTES_MAX: u64 = 64 << 20;

/// A value of a manifest.
trait Part: Sized {
    fn to_json(&self) -> Value;
    fn of_json(value: &Value) -> Option<Self>;
}

macro_rules! numbers {
    ($($kind:ty)*) => {
        $(impl Part for $kind {
            fn to_json(&self) -> Value {
                (*self).into()
            }

            fn of_json(value: &Value) -> Option<Self> {
                value.as_i64().and_then(|number| number.try_into().ok())
                    .or_else(|| value.as_u64().and_then(|number| number.try_into().ok()))
            }
        })*
    };
}

numbers!(u16 u32 u64 i32);

impl Part for bool {
    fn to_json(&self) -> Value {
        (*self).into()
    }

    fn of_json(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Part for String {
    fn to_json(&self) -> Value {
        self.as_str().into()
    }

    fn of_json(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl<T: Part> Part for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }

    fn of_json(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::of_json(value).map(Some) }
    }
}

impl<T: Part> Part for Vec<T> {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(T::to_json).collect())
    }

    fn of_json(value: &Value) -> Option<Self> {
        if value.is_null() {
            return Some(Self::new());
        }
        value.as_array()?.iter().map(T::of_json).collect()
    }
}

impl<A: Part, B: Part> Part for (A, B) {
    fn to_json(&self) -> Value {
        Value::Array(vec![self.0.to_json(), self.1.to_json()])
    }

    fn of_json(value: &Value) -> Option<Self> {
        let [first, second] = value.as_array()?.as_slice() else { return None };
        Some((A::of_json(first)?, B::of_json(second)?))
    }
}

macro_rules! records {
    ($($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $about:literal])+ $field:ident: $kind:ty,)*
    })*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name { $($(#[doc = $about])+ pub $field: $kind,)* }

            impl Part for $name {
                fn to_json(&self) -> Value {
                    let mut object = Map::new();
                    $(object.insert(stringify!($field).to_owned(), self.$field.to_json());)*
                    Value::Object(object)
                }

                fn of_json(value: &Value) -> Option<Self> {
                    let object = value.as_object()?;
                    let field = |name| object.get(name).unwrap_or(&Value::Null);
                    Some(Self { $($field: Part::of_json(field(stringify!($field)))?,)* })
                }
            }
        )*
    };
}

records! {
    /// All of it.
    Manifest {
        /// [`VERSION`] of who wrote it.
        version: u32,
        /// What was opened before the master began.
        shell: Shell,
        /// The master itself.
        core: Core,
    }
    /// What a process opens before its master begins.
    Shell {
        /// The board.
        board: BoardPart,
        /// Boards of programs before this one, whose workers live.
        elders: Vec<ElderPart>,
        /// Of each address: how it was configured, and what it became.
        addresses: Vec<(String, String)>,
        /// Control and health listeners.
        doors: Vec<DoorPart>,
        /// Where health is answered.
        health: Option<String>,
        /// Files to be removed at the end: path, device and inode.
        files: Vec<FilePart>,
        /// The file with the master's number, which stays locked.
        pid_file: Option<LockPart>,
        /// The umask from before the pool.
        umask: Option<u32>,
        /// The signals that were blocked before the pool.
        blocked: Vec<i32>,
        /// RLIMIT_NOFILE from before the pool.
        nofile: u64,
        /// The number of workers that was configured.
        workers: u32,
        /// The mode that was configured, or recommended.
        mode: String,
        /// The program that wrote this, to come back to.
        program: Option<i32>,
    }
    /// The board: where it is, and how it is laid out.
    BoardPart {
        /// Its memory.
        fd: i32,
        /// How many lines it has.
        lines: u32,
        /// Its counters, in order.
        counters: Vec<String>,
        /// Its reasons to close, in order.
        reasons: Vec<String>,
    }
    /// A board of an earlier program of this process.
    ElderPart {
        /// The number of its first line.
        first: u32,
        /// Where it is.
        board: BoardPart,
    }
    /// A listener for operators.
    DoorPart {
        /// The listener.
        fd: i32,
        /// Whether commands are taken there.
        operator: bool,
    }
    /// A file of ours.
    FilePart {
        /// Where it is.
        path: String,
        /// On which device.
        device: u64,
        /// Its number there.
        inode: u64,
    }
    /// A file of ours that is locked.
    LockPart {
        /// The file.
        file: FilePart,
        /// The descriptor that holds the lock.
        fd: i32,
    }
    /// What a master knows.
    Core {
        /// All listeners.
        listeners: Vec<ListenerPart>,
        /// How connections reach workers.
        mode: String,
        /// The epoch that serves.
        epoch: u32,
        /// All slots, in order.
        slots: Vec<SlotPart>,
        /// All worker processes.
        workers: Vec<WorkerPart>,
        /// Connections that were accepted, and given to nobody yet.
        pending: Vec<ConnectionPart>,
        /// Who waits for the end of the upgrade.
        askers: Vec<i32>,
        /// The books.
        ledger: LedgerPart,
        /// When the pool began.
        began: u64,
        /// How many workers there were before all were drained.
        drained: Option<u32>,
        /// Whether the next program is the one before this.
        back: Option<bool>,
        /// What waits for the end of the upgrade.
        waiting: Vec<WaitingPart>,
        /// Who has not asked yet.
        visitors: Vec<VisitorPart>,
    }
    /// A command whose turn has not come.
    WaitingPart {
        /// As a line of the control language.
        line: String,
        /// Who waits for its answer.
        askers: Vec<i32>,
    }
    /// A connection at a control or health listener.
    VisitorPart {
        /// The connection.
        fd: i32,
        /// At which of the listeners.
        door: u32,
        /// What came, in hexadecimal.
        input: String,
    }
    /// A listener.
    ListenerPart {
        /// The listener.
        fd: i32,
        /// Of which address.
        address: u16,
        /// Of which slot; none: the master's alone.
        slot: Option<u32>,
    }
    /// A slot.
    SlotPart {
        /// Of its next life.
        generation: u32,
        /// Of its lives when nobody asks for another.
        epoch: u32,
        /// Whether it is to be filled.
        filled: bool,
        /// The line of the life in it.
        line: Option<u32>,
        /// When the next life is spawned.
        spawn_at: Option<u64>,
    }
    /// A worker process.
    WorkerPart {
        /// Its line on the board.
        line: u32,
        /// Its process.
        pid: u32,
        /// Its slot.
        slot: u32,
        /// How often that was filled before.
        generation: u32,
        /// Which reload it belongs to.
        epoch: u32,
        /// `booting`, `ready`, `draining` or `killed`.
        state: String,
        /// Whether it was asked to end.
        asked: bool,
        /// When it was forked.
        born: u64,
        /// When it was ready.
        ready_at: Option<u64>,
        /// When it is killed.
        kill_at: Option<u64>,
        /// Why it is killed then.
        kill_why: Option<String>,
        /// Whether it has listeners of its slot.
        reads: bool,
        /// Connections that it may hold.
        connections_max: u64,
        /// Our end of its channel.
        channel: Option<i32>,
        /// A control message that waits for the channel.
        control: Option<String>,
        /// Our end of its stream of messages.
        mail: Option<MailPart>,
        /// Connections ever handed over to it.
        handed: u64,
        /// Of those, known as received.
        settled: u64,
        /// Connections that any message brought to it.
        sent: u64,
        /// What it had not seen was taken back: how many it had seen then.
        revoked: Option<u64>,
        /// Our copies of the rest, oldest first.
        copies: Vec<ConnectionPart>,
        /// Connections that it gave back and we took.
        taken_back: u64,
        /// Of those, without a promise of room for others.
        unpromised: u64,
    }
    /// A stream of application messages.
    MailPart {
        /// Our end.
        fd: i32,
        /// Bytes of a message that has not come whole, in hexadecimal.
        came: String,
        /// Bytes to send, in hexadecimal.
        leaves: String,
    }
    /// A connection.
    ConnectionPart {
        /// The connection.
        fd: i32,
        /// The address it arrived at.
        listener: u16,
        /// When it was accepted, or came back.
        at: u64,
        /// Requests it has had, and since when it idles.
        carried: Option<(u64, u64)>,
    }
    /// The books of the pool, and of its dead workers.
    LedgerPart {
        /// Connections that the master accepted.
        accepted: u64,
        /// Refused, by reason.
        refused: Vec<(String, u64)>,
        /// Given to others after a death.
        redispatched: u64,
        /// Not begun by a worker that hung, and given to others.
        rescued: u64,
        /// Of those accepted, connections of the master with itself.
        probes: u64,
        /// Workers that ended.
        deaths: u64,
        /// Workers that the master killed.
        killed: u64,
        /// Given back, and closed.
        closed_idle: u64,
        /// Of the dead: accepted by themselves.
        own: u64,
        /// Of the dead: taken, from the master or by themselves.
        taken: u64,
        /// Of the dead: given back.
        handed_back: u64,
        /// Of the dead: open when they died.
        died: u64,
        /// Of the dead: given back, and not arrived.
        lost: u64,
        /// Of the dead: counters by name.
        counters: Vec<(String, u64)>,
        /// Of the dead: closed, by reason.
        reasons: Vec<(String, u64)>,
    }
}

impl Manifest {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        self.to_json().to_string()
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is none, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(format!("a manifest of version {version}")),
            None => return Err("no manifest".to_owned()),
        }
        Self::of_json(&value).ok_or_else(|| "a field is missing or of another kind".to_owned())
    }

    /// Drops the boards of earlier programs on which nobody lives any more.
    pub fn drop_unused_boards(&mut self) {
        let lines: Vec<u32> = self.core.workers.iter().map(|worker| worker.line).collect();
        self.shell.elders.retain(|elder| elder.is_used(&lines));
    }

    /// The board becomes one of an earlier program: a new one of so many lines goes before it.
    pub fn age_boards(&mut self, lines: u32) {
        let board = self.shell.board.clone();
        self.shell.elders.insert(0, ElderPart { first: 0, board });
        for elder in &mut self.shell.elders {
            elder.first = elder.first.saturating_add(lines);
        }
        let workers = self.core.workers.iter_mut().map(|worker| &mut worker.line);
        let slots = self.core.slots.iter_mut().filter_map(|slot| slot.line.as_mut());
        for line in workers.chain(slots) {
            *line = line.saturating_add(lines);
        }
    }

    /// Every descriptor that it names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<i32> {
        let (shell, core) = (&self.shell, &self.core);
        let fds = |all: &[ConnectionPart]| all.iter().map(|part| part.fd).collect::<Vec<_>>();
        let mut all = self.trial_descriptors();
        all.extend(shell.doors.iter().map(|door| door.fd));
        all.extend(shell.pid_file.iter().map(|file| file.fd));
        all.extend(shell.program);
        all.extend(fds(&core.pending));
        all.extend(core.all_askers());
        for worker in &core.workers {
            all.extend(worker.channel);
            all.extend(worker.mail.iter().map(|mail| mail.fd));
            all.extend(fds(&worker.copies));
        }
        all
    }

    /// Those that a program on trial gets: no connection, so that none stays open because of it.
    #[must_use]
    pub fn trial_descriptors(&self) -> Vec<i32> {
        let listeners = self.core.listeners.iter().map(|listener| listener.fd);
        let elders = self.shell.elders.iter().map(|elder| elder.board.fd);
        listeners.chain([self.shell.board.fd]).chain(elders).collect()
    }
}

impl ElderPart {
    fn is_used(&self, lines: &[u32]) -> bool {
        let holds =
            |line: &u32| line.checked_sub(self.first).is_some_and(|at| at < self.board.lines);
        lines.iter().any(holds)
    }
}

impl Core {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        self.to_json().to_string()
    }

    /// The connections of all operators and health checks.
    pub fn all_askers(&self) -> impl Iterator<Item = i32> {
        let waiting = self.waiting.iter().flat_map(|part| &part.askers);
        let visitors = self.visitors.iter().map(|part| part.fd);
        self.askers.iter().chain(waiting).copied().chain(visitors)
    }

    /// Reads what [`Core::encode`] wrote.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        Self::of_json(&serde_json::from_str(text).ok()?)
    }
}

/// Bytes as text.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The reverse of [`to_hex`]; `None` if it is none.
#[must_use]
pub fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connection() -> impl Strategy<Value = ConnectionPart> {
        let carried = prop::option::of(any::<(u64, u64)>());
        (0..i32::MAX, any::<u16>(), any::<u64>(), carried)
            .prop_map(|(fd, listener, at, carried)| ConnectionPart { fd, listener, at, carried })
    }

    fn worker() -> impl Strategy<Value = WorkerPart> {
        let numbers = (any::<[u32; 4]>(), any::<[u64; 4]>(), any::<[bool; 2]>());
        let texts = (any::<String>(), prop::option::of(any::<String>()));
        let copies = prop::collection::vec(connection(), 0..3);
        let mail = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
        (numbers, texts, copies, mail).prop_map(|((small, large, flags), texts, copies, mail)| {
            WorkerPart {
                line: small[0],
                pid: small[1],
                slot: small[2],
                generation: small[3],
                state: texts.0,
                control: texts.1,
                asked: flags[0],
                reads: flags[1],
                born: large[0],
                ready_at: flags[0].then_some(large[1]),
                handed: large[2],
                settled: large[3],
                channel: flags[1].then_some(7),
                copies,
                mail: mail.map(|bytes| MailPart {
                    fd: 9,
                    came: to_hex(&bytes),
                    leaves: String::new(),
                }),
                ..WorkerPart::default()
            }
        })
    }

    fn manifest() -> impl Strategy<Value = Manifest> {
        let workers = prop::collection::vec(worker(), 0..4);
        let pending = prop::collection::vec(connection(), 0..4);
        let pairs = prop::collection::vec(any::<(String, u64)>(), 0..4);
        let files = (any::<String>(), any::<u64>());
        (workers, pending, pairs, files).prop_map(|(workers, pending, pairs, (path, inode))| {
            let file = FilePart { path, inode, ..FilePart::default() };
            let shell = Shell {
                files: vec![file.clone()],
                pid_file: Some(LockPart { file, fd: 3 }),
                ..Shell::default()
            };
            let ledger = LedgerPart { refused: pairs, ..LedgerPart::default() };
            let core = Core { workers, pending, ledger, askers: vec![5], ..Core::default() };
            Manifest { version: VERSION, shell, core }
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(manifest in manifest()) {
            let text = manifest.encode();
            prop_assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest));
        }

        #[test]
        fn a_cut_one_is_refused(manifest in manifest(), at in any::<prop::sample::Index>()) {
            let text = manifest.encode();
            let end = at.index(text.len());
            prop_assert!(Manifest::decode(&text.as_bytes()[..end]).is_err());
        }

        #[test]
        fn any_bytes_are_refused_and_nothing_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(Manifest::decode(&bytes).is_err());
        }

        /// Whatever one value of it becomes: it is read, or refused.
        #[test]
        fn a_changed_one_does_not_panic(
            manifest in manifest(),
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            let mut bytes = manifest.encode().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Manifest::decode(&bytes);
        }

        #[test]
        fn hexadecimal_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(of_hex(&to_hex(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn every_descriptor_is_named_once() {
        let connection = |fd| ConnectionPart { fd, ..ConnectionPart::default() };
        let worker = WorkerPart {
            channel: Some(5),
            mail: Some(MailPart { fd: 6, ..MailPart::default() }),
            copies: vec![connection(7), connection(8)],
            ..WorkerPart::default()
        };
        let shell = Shell {
            board: BoardPart { fd: 1, ..BoardPart::default() },
            elders: vec![ElderPart {
                first: 0,
                board: BoardPart { fd: 11, ..BoardPart::default() },
            }],
            doors: vec![DoorPart { fd: 2, operator: true }],
            pid_file: Some(LockPart { fd: 3, ..LockPart::default() }),
            program: Some(12),
            ..Shell::default()
        };
        let core = Core {
            listeners: vec![ListenerPart { fd: 4, ..ListenerPart::default() }],
            workers: vec![worker],
            pending: vec![connection(9)],
            askers: vec![10],
            ..Core::default()
        };
        let manifest = Manifest { version: VERSION, shell, core };
        let mut all = manifest.descriptors();
        all.sort_unstable();
        assert_eq!(all, (1..=12).collect::<Vec<_>>());
        assert_eq!(manifest.trial_descriptors(), [4, 1, 11]);
    }

    #[test]
    fn boards_age_with_their_lines_until_nobody_lives_there() {
        let worker = |line| WorkerPart { line, ..WorkerPart::default() };
        let slot = SlotPart { line: Some(2), ..SlotPart::default() };
        let mut manifest = Manifest::default();
        manifest.shell.board = BoardPart { fd: 3, lines: 5, ..BoardPart::default() };
        manifest.core.workers = vec![worker(2)];
        manifest.core.slots = vec![slot, SlotPart::default()];
        manifest.age_boards(10);
        assert_eq!(manifest.core.workers[0].line, 12);
        assert_eq!((manifest.core.slots[0].line, manifest.core.slots[1].line), (Some(12), None));
        manifest.shell.board = BoardPart { fd: 4, lines: 10, ..BoardPart::default() };
        manifest.drop_unused_boards();
        manifest.core.workers.push(worker(9));
        manifest.age_boards(20);
        let firsts = |manifest: &Manifest| {
            let elders = manifest.shell.elders.iter();
            elders.map(|elder| (elder.first, elder.board.fd)).collect::<Vec<_>>()
        };
        assert_eq!(firsts(&manifest), [(20, 4), (30, 3)]);
        assert_eq!(manifest.core.workers[1].line, 29);
        manifest.core.workers.remove(0);
        manifest.drop_unused_boards();
        assert_eq!(firsts(&manifest), [(20, 4)]);
    }

    #[test]
    fn another_version_is_refused_and_a_new_field_is_not() {
        let refused = |text: &str| Manifest::decode(text.as_bytes()).unwrap_err();
        assert_eq!(refused("{}"), "no manifest");
        assert_eq!(refused("[]"), "no manifest");
        assert_eq!(refused(r#"{"version":2}"#), "a manifest of version 2");
        assert_eq!(refused(r#"{"version":1}"#), "a field is missing or of another kind");
        let text = Manifest { version: VERSION, ..Manifest::default() }.encode();
        let more = text.replacen('{', r#"{"later":[1],"#, 1);
        assert!(Manifest::decode(more.as_bytes()).is_ok());
        assert_eq!((of_hex("0"), of_hex("0g")), (None, None));
    }
}
