//! Registry -> labels of the series of a family, a part at a time.

use super::by_key::ByKey;
use super::{FamilyId, LabelsView, Registry, SeriesMark};

impl Registry {
    /// Visits the labels of up to `series_max` series of `family` behind `mark`, and moves `mark`. Returns
    /// how many there were; fewer than `series_max` means that the family is at its end.
    pub fn visit_labels(
        &mut self,
        family: FamilyId,
        mark: &mut SeriesMark,
        series_max: usize,
        mut visit: impl FnMut(LabelsView<'_>),
    ) -> usize {
        let all = &self.slots.all;
        let place = self.families.get_mut(family.index as usize);
        let Some(family) = place.filter(|place| place.serial == family.serial) else { return 0 };
        family.series.settle(&ByKey(all));
        let mut visited = 0;
        let mut last = None;
        for id in family.series.after(&|id| mark.order(&all[id as usize])).take(series_max) {
            let series = &all[id as usize];
            if let Some(vector) = self.vectors.get(series.vector as usize) {
                visit(LabelsView { names: &vector.names, key: &series.key });
            }
            (visited, last) = (visited + 1, Some(series));
        }
        if let Some(series) = last {
            mark.move_to(series);
        }
        visited
    }
}
