/* table.c: compiled once a processor level. */
typedef int mmf_kernel_table_is_empty;
