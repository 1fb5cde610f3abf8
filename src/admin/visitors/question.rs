//! What is in the bytes of a visitor: a line of the control language, or a page over HTTP. Pure.

use super::super::line::{self, LINE_MAX};
use super::super::page::{self, Page};
use super::super::{Trust, json};
use super::Question;
use crate::http::head::{self, HeadLimits, Storage};
use crate::master::answer::Answer;

/// What is in the bytes of a visitor.
pub(super) enum Asked {
    /// Nothing whole yet.
    Not,
    Question(Question),
    /// What to say to it.
    Wrong(Vec<u8>),
}

/// Who speaks HTTP begins with a method in capitals; a command is in small letters.
pub(super) fn question(input: &[u8], trust: Trust, limits: &HeadLimits) -> Asked {
    let http = trust == Trust::Anyone || input.first().is_some_and(u8::is_ascii_uppercase);
    if http {
        return page(input, limits);
    }
    let wrong = |why: &str| {
        let answer = Answer { code: 2, ..Answer::failed("line", why) };
        Asked::Wrong(json::answer(&answer).into_bytes())
    };
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) if end <= LINE_MAX => line::parse(&input[..end])
            .map_or_else(|why| wrong(&why), |request| Asked::Question(Question::Line(request))),
        None if input.len() <= LINE_MAX => Asked::Not,
        Some(_) | None => wrong("the line is too long"),
    }
}

fn page(input: &[u8], limits: &HeadLimits) -> Asked {
    let mut storage = Storage::new();
    match head::parse(input, &mut storage, limits) {
        Ok(None) => Asked::Not,
        Ok(Some(head)) => match head.method {
            "GET" | "HEAD" => {
                Asked::Question(Question::Page(Page::of(head.path()), head.method == "GET"))
            }
            _ => Asked::Wrong(page::refusal(405, true)),
        },
        Err(_) => Asked::Wrong(page::refusal(400, true)),
    }
}
