//! Every test that needs more than one crate, in one binary.

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod sandbox;
