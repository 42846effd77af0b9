//! Every test that needs more than one crate, in one binary.

#[cfg(test)]
mod door;
#[cfg(test)]
mod emulator;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kube;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod node;
#[cfg(test)]
mod program;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod tree;
