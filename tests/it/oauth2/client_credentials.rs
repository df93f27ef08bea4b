//! What the client credentials grant asks for, of whom, and in which words.

mod parameters;
