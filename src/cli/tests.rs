//! The command line as tables: arguments, environment and file in, settings or an error out.

use super::*;
use proptest::prelude::*;
use ringfort::Config;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// `env`: `NAME=value` by blanks, without `RINGFORT_`; `file`: the text of `f.toml`.
fn run(args: &str, env: &str, file: &str) -> Result<Command, Usage> {
    let env = env.split_whitespace().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (OsString::from(format!("RINGFORT_{name}")), OsString::from(value))
    });
    parse(words(args), env, |path| match path.to_str() {
        Some("f.toml") => Ok(file.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

/// `want`: the lines of `--check` that are no defaults, blanks made one; or the error.
#[track_caller]
fn check(args: &str, env: &str, file: &str, want: &str) {
    let got = match run(&format!("serve --check {args}"), env, file) {
        Ok(Command::Check(settings)) => report(&settings)
            .lines()
            .filter(|line| !line.ends_with("# default"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join("; "),
        Ok(other) => panic!("{other:?}"),
        Err(usage) => usage.to_string(),
    };
    assert_eq!(got, want);
}

#[test]
fn flag_over_environment_over_file_over_default() {
    check("", "", "", "");
    check("", "CONFIG=f.toml", "workers = 1", "workers = 1 # \"f.toml\" line 1, workers");
    check("", "WORKERS=2 CONFIG=f.toml", "workers = 1", "workers = 2 # RINGFORT_WORKERS");
    check(
        "--workers 3 --config f.toml",
        "WORKERS=2 CONFIG=other.toml",
        "workers = 1\n\nbacklog = 5",
        "workers = 3 # --workers; backlog = 5 # \"f.toml\" line 3, backlog",
    );
    check("--workers 3 --workers=4", "", "", "workers = 4 # --workers");
    check("", "WORKERS=", "", "");
}

#[test]
fn addresses_of_a_higher_layer_replace_those_below() {
    let file = "addr = ['127.0.0.1:1', \"unix:/x\"]";
    let from_file = "addr = [\"127.0.0.1:1\", \"unix:/x\"] # \"f.toml\" line 1, addr";
    check("", "CONFIG=f.toml", file, from_file);
    let from_env = "addr = [\"127.0.0.1:2\", \"[::1]:2\"] # RINGFORT_ADDR";
    check("", "CONFIG=f.toml ADDR=127.0.0.1:2,[::1]:2", file, from_env);
    let from_flags = "addr = [\"127.0.0.1:3\", \"127.0.0.1:4\"] # --addr";
    check("--addr 127.0.0.1:3 --addr 127.0.0.1:4", "ADDR=127.0.0.1:2", "", from_flags);
    check(
        "--config f.toml",
        "",
        "addr = '[::1]:5'",
        "addr = [\"[::1]:5\"] # \"f.toml\" line 1, addr",
    );
}

#[test]
fn errors_say_what_where_and_what_is_expected() {
    check("--workers 1025", "", "", "--workers: \"1025\": expected 0 to 1024 [usage]");
    let duration = "expected a duration such as 5s, 250ms or 2m [usage]";
    check("", "HEAD_TIMEOUT=5", "", &format!("RINGFORT_HEAD_TIMEOUT: \"5\": {duration}"));
    check(
        "--config f.toml",
        "",
        "# comment\nhead_timeout = 5",
        &format!("\"f.toml\" line 2, head_timeout: \"5\": {duration}"),
    );
    check("", "HED_TIMEOUT=5s", "", "RINGFORT_HED_TIMEOUT: no such option [usage]");
    check("", "head_timeout=5s", "", "RINGFORT_head_timeout: no such option [usage]");
    check("--config f.toml", "", "\nhed = 5", "\"f.toml\" line 2, hed: no such option [usage]");
    check(
        "--config f.toml",
        "",
        "config = 'x'",
        "\"f.toml\" line 1, config: no such option [usage]",
    );
    check("--config x", "", "", "cannot read \"x\": entity not found [usage]");
    let form = "expected a text, a number, true or false (a list for addr) [usage]";
    check(
        "--config f.toml",
        "",
        "addr = [1.5]",
        &format!("\"f.toml\" line 1, addr: \"[1.5]\": {form}"),
    );
    check("--config f.toml", "", "addr = []", &format!("\"f.toml\" line 1, addr: \"[]\": {form}"));
    check(
        "--config f.toml",
        "",
        "workers = [1]",
        &format!("\"f.toml\" line 1, workers: \"[1]\": {form}"),
    );
    check(
        "--config f.toml",
        "",
        "workers = 0x10",
        &format!("\"f.toml\" line 1, workers: \"0x10\": {form}"),
    );
    check(
        "--config f.toml",
        "",
        "[workers]\na = 1",
        &format!("\"f.toml\" line 1, workers: \"[workers]\": {form}"),
    );
    check(
        "--config f.toml",
        "",
        "workers = 1\nworkers = 2",
        "\"f.toml\" line 2: duplicate key [usage]",
    );
    check(
        "--addr nowhere",
        "",
        "",
        "--addr: \"nowhere\": expected HOST:PORT, [IPv6]:PORT or unix:PATH [usage]",
    );
    check("--mode both", "", "", "--mode: \"both\": expected auto, shared or centralized [usage]");
    check("--root=", "", "", "--root: \"\": expected a directory [usage]");
    check("--head_timeout 5s", "", "", "invalid option '--head_timeout' [usage]");
    check("--colour red", "", "", "invalid option '--colour' [usage]");
    check("extra", "", "", "unexpected argument \"extra\" [usage]");
    check("--workers", "", "", "missing argument for option '--workers' [usage]");
    check("--check=yes", "", "", "unexpected argument for option '--check': \"yes\" [usage]");
}

#[test]
fn commands() {
    let kind = |line: &str| match run(line, "", "") {
        Ok(Command::Print(text)) => text.lines().next().unwrap_or("").to_owned(),
        Ok(Command::Check(_)) => "check".to_owned(),
        Ok(Command::Demo(settings)) => format!("demo {:?}", settings.config.addresses()),
        Ok(Command::Serve(settings)) => format!("serve {:?}", settings.root),
        Ok(Command::Ctl(ctl)) => format!("{ctl:?}"),
        #[cfg(feature = "load")]
        Ok(Command::Bench(bench)) => format!("bench {:?}", bench.url),
        Err(usage) => usage.to_string(),
    };
    #[cfg(feature = "load")]
    {
        assert_eq!(kind("bench http://h/"), "bench Some(\"http://h/\")");
        assert_eq!(kind("bench --self -h"), "Usage: ringfort bench URL [OPTIONS]");
    }
    assert_eq!(kind(""), "demo [Tcp(127.0.0.1:8080)]");
    assert_eq!(kind("serve"), "serve None");
    assert_eq!(kind("serve --root /srv"), "serve Some(\"/srv\")");
    assert_eq!(kind("--version"), format!("ringfort {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(kind("-V"), kind("--version"));
    assert_eq!(kind("--help"), "ringfort: a pre-fork server engine for Linux on io_uring");
    assert_eq!(kind("-h"), kind("--help"));
    assert_eq!(kind("serve --workers 9999 -h"), "Usage: ringfort serve [OPTIONS]");
    let scale = "Ctl { socket: \"/run/x\", line: \"scale -1\" }";
    assert_eq!(kind("ctl /run/x scale -1"), scale);
    assert_eq!(kind("ctl --help"), "Usage: ringfort ctl SOCKET COMMAND");
    assert_eq!(kind("ctl"), "ringfort ctl SOCKET COMMAND [usage]");
    assert_eq!(kind("ctl /run/x"), "an empty line; `status` is a beginning [usage]");
    assert_eq!(kind("ctl /run/x stop now"), "stop takes no argument [usage]");
    assert_eq!(kind("sevre"), "no such command: \"sevre\" [usage]");
    assert_eq!(kind("--workers 3"), "write `ringfort serve --workers …` [usage]");
    assert_eq!(kind("--nothing"), "invalid option '--nothing' [usage]");
}

#[test]
fn the_help_names_every_setting_with_its_default_and_fits_a_terminal() {
    let Ok(Command::Print(text)) = run("serve --help", "", "") else { panic!("no help") };
    let folders: Vec<&str> = text.lines().filter(|line| line.ends_with(" DIR")).collect();
    assert_eq!(folders, ["  --root DIR"]);
    for row in Config::ROWS {
        let default = Config::default().get(row.name).unwrap();
        let line = format!("  --{} {default}\n", row.name.replace('_', "-"));
        assert!(text.contains(&line), "{line}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn what_check_prints_is_a_file_that_gives_the_same_settings() {
    let line = "serve --addr 127.0.0.1:0 --root a\"\\\u{7}b --mode shared --head-timeout 250ms";
    let Ok(Command::Serve(settings)) = run(line, "", "") else { panic!("not valid") };
    let file = report(&settings);
    let Ok(Command::Serve(again)) = run("serve --config f.toml", "", &file) else { panic!() };
    assert_eq!((again.config, again.root), (settings.config, settings.root));
    let line = "serve --balancer weighted --weights 3,1";
    let Ok(Command::Serve(settings)) = run(line, "", "") else { panic!("not valid") };
    let file = report(&settings);
    let Ok(Command::Serve(again)) = run("serve --config f.toml", "", &file) else { panic!() };
    assert_eq!(again.config, settings.config);
}

proptest! {
    #[test]
    fn any_line_environment_and_file_is_a_command_or_an_error(
        args in prop::collection::vec("(serve|--[a-z-]{0,12}|[ -~]{0,8})", 0..4),
        name in "[A-Z_a-z]{0,12}",
        value in any::<String>(),
        file in r#"([a-z_]{0,14}|workers|addr) ?= ?["'\[{]?[ -~\n]{0,40}"#,
    ) {
        let env = [(OsString::from(format!("RINGFORT_{name}")), OsString::from(value))];
        let args = args.into_iter().map(OsString::from);
        let _ = parse(args, env, |_| Ok(file.clone()));
        let _ = parse(words("serve --config x"), [], |_| Ok(file.clone()));
    }
}

#[test]
fn a_file_nested_without_end_is_an_error() {
    let file = format!("addr = {}", "[".repeat(100_000));
    assert!(run("serve --config f.toml", "", &file).is_err());
}
