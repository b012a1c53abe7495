//! What cannot be taken back is done after a yes.

use std::io::{IsTerminal, Write};

use crate::fault::Fault;

/// For commands that take something away.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

impl ConfirmArgs {
    /// Asks on the terminal, unless `--yes` was said. `loss`: what is about to happen, as a sentence.
    pub(crate) fn confirm(self, loss: &str) -> Result<(), Fault> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Fault::Usage(format!("{loss} Nobody is there to be asked: say --yes if that is meant")));
        }
        eprint!("{loss} Go on? [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            true => Ok(()),
            false => Err(Fault::Usage("nothing was changed".to_owned())),
        }
    }
}
