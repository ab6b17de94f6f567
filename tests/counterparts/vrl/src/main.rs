//! Vector's own language, for tests of deployment/logging: `vrl-lines PROGRAM` compiles a file, reads an event of JSON a
//! line, and writes what the program makes of it. A program that does not compile, or an event that ends in an error, is
//! told on standard error and ends it with 1.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::{TargetValue, TimeZone, compile};
use vrl::diagnostic::Formatter;
use vrl::value::{Secrets, Value};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let file = std::env::args().nth(1).ok_or("usage: vrl-lines PROGRAM")?;
    let source = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let compiled = compile(&source, &vrl::stdlib::all())
        .map_err(|found| Formatter::new(&source, found).to_string())?;
    if !compiled.warnings.is_empty() {
        return Err(Formatter::new(&source, compiled.warnings).to_string());
    }
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let event: serde_json::Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let mut target = TargetValue {
            value: Value::from(event),
            metadata: Value::Object(Default::default()),
            secrets: Secrets::default(),
        };
        match Runtime::default().resolve(&mut target, &compiled.program, &TimeZone::default()) {
            Ok(_) => {
                let made = serde_json::to_string(&target.value).map_err(|error| error.to_string())?;
                writeln!(out, "{made}").map_err(|error| error.to_string())?;
            }
            Err(Terminate::Abort(_)) => writeln!(out, "null").map_err(|error| error.to_string())?,
            Err(other) => return Err(format!("{line}: {other:?}")),
        }
    }
    Ok(())
}
