//! Slipring in pictures: charts, the load generator, and the reports that the `tester` binary writes.
//!
//! Three parts that know little of each other. [`chart`] turns plain data into SVG and PNG. [`load`]
//! sends requests on a schedule or as fast as they are answered, over any protocol. [`report`] holds what
//! was measured, compares it with what theory says, and chooses the charts. The binary joins them to a
//! balancer. Later systems draw and load with the same parts.

pub mod chart;
pub mod load;
pub mod report;
