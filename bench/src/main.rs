fn main() -> anyhow::Result<()> {
    let object = std::fs::read(std::env::args().nth(1).expect("object"))?;
    for cost in rotameter_bench::kernel_cost::measure(&object, 7, 1_000_000)? {
        println!(
            "{:40} {:?} (min {:?}, max {:?}, limit {:?})",
            cost.case, cost.median, cost.min, cost.max, cost.limit_ns
        );
    }
    Ok(())
}
