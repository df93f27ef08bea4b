//! An error that prints its causes.

use std::fmt;

use tower_auth::BoxError;

/// Any error. If `main` returns this error, it is printed with its causes, one a line.
pub struct Report(BoxError);

impl<E> From<E> for Report
where
    E: Into<BoxError>,
{
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, "\n  because {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
