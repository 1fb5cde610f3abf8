//! Bodies larger than memory: an upload that is counted while it comes, a download that is made
//! while it leaves. Neither is ever held whole; a slow peer slows only itself.
//!
//! `curl -T some-file http://127.0.0.1:8080/`, `curl -o /dev/null http://127.0.0.1:8080/?mib=100`

use ringfort::Pool;
use ringfort::http::{Handler, Pull, Request, Response, Stream, Upload};

struct Transfer;

impl Handler for Transfer {
    fn handle(&mut self, req: &Request<'_>, res: &mut Response) {
        let mib = req.query_value("mib").and_then(|text| text.parse().ok()).unwrap_or(1_u64);
        res.stream(Zeros { left: mib.min(1 << 20) << 20 });
    }

    fn upload(&mut self, _head: &Request<'_>) -> Option<Box<dyn Upload>> {
        Some(Box::new(Counter(0)))
    }
}

struct Counter(u64);

impl Upload for Counter {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }

    fn finish(self: Box<Self>, res: &mut Response) {
        res.text(format!("{} bytes\n", self.0));
    }
}

struct Zeros {
    left: u64,
}

impl Stream for Zeros {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        let piece = self.left.min(64 << 10);
        self.left -= piece;
        out.resize(out.len() + usize::try_from(piece).unwrap_or(0), 0);
        if self.left == 0 { Pull::Done } else { Pull::More }
    }

    fn length(&self) -> Option<u64> {
        Some(self.left)
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .limits(|set| set.body_max(1 << 40).map(drop))
        .serve_with(|_worker| Transfer)
}
