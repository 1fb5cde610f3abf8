//! Code of the application that panics, and objects of it that panic when they go. Pure.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Code of the application panicked. Its message was printed by the panic hook.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Calls code of the application, and is the only way to: a panic ends here, whatever it carries.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        forget(payload);
        Panicked
    })
}

/// Drops an object of the application, whose `Drop` may panic.
pub(crate) fn discard<T>(object: T) {
    let _ = contained(move || drop(object));
}

/// Drops what a panic carried. That may panic too, with something else; the third is never dropped.
fn forget(payload: Box<dyn Any + Send>) {
    let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) else { return };
    if let Err(third) = catch_unwind(AssertUnwindSafe(move || drop(second))) {
        let _ = ManuallyDrop::new(third);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    /// Panics with one like it whenever it goes.
    struct Hydra;

    impl Drop for Hydra {
        fn drop(&mut self) {
            panic_any(Self);
        }
    }

    #[test]
    fn a_panic_ends_here_whatever_it_carries() {
        assert_eq!(contained(|| 7), Ok(7));
        assert_eq!(contained(|| panic!("planned")), Err::<(), _>(Panicked));
        assert_eq!(contained(|| panic_any(Hydra)), Err::<(), _>(Panicked));
        assert_eq!(contained(|| drop(Hydra)), Err(Panicked));
        discard(Hydra);
    }
}
