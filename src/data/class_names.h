/* class_names.h: the classes of a file in the order of a model that was trained on another. */
#ifndef MMFUSE_DATA_CLASS_NAMES_H
#define MMFUSE_DATA_CLASS_NAMES_H

#include "mmfuse/data.h"

/**
 * Numbers the classes, or columns, of the target by `names` (n) instead of by the file's own names;
 * columns that the file lacks are 0. Nothing changes where the file names none, or the same. A
 * class of a sample, or a column, that is none of them makes the classes n + 1: the file can be
 * predicted, and scoring names it. @errors NOMEM
 */
mmf_status mmf_dataset_order_classes(mmf_dataset *ds, const char *const *names, int64_t n);
/** The first class that is none of the names; NULL: there is none. */
const char *mmf_dataset_foreign_class(const mmf_dataset *ds);

#endif
