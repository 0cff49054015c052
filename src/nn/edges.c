/* edges.c: a graph as a list of edges, read from compressed sparse rows; see graph.h. */
#include <string.h>

#include "nn/graph.h"
#include "tensor/tape.h"

static const char op[] = "adjacency";

bool mmf_graph_is_given(const mmf_schema *inputs)
{
    return mmf_schema_find(inputs, "adjacency") || (mmf_schema_find(inputs, "adjacency.indptr") &&
                                                    mmf_schema_find(inputs, "adjacency.indices"));
}

bool mmf_graph_is_sparse(const mmf_named *in)
{
    return mmf_named_get(in, "adjacency.indptr") != NULL;
}

static bool rows_fit(mmf_tape *tape, const mmf_tensor *indptr, const mmf_tensor *indices,
                     const mmf_tensor *values, int64_t n)
{
    bool fits = indptr && indices && indptr->is_int && indices->is_int && indptr->count == n + 1 &&
                (!values || (values->count == indices->count && !values->is_int)) &&
                indptr->ints[0] == 0 && indptr->ints[n] == indices->count;
    for (int64_t i = 0; fits && i < n; i++)
        fits = indptr->ints[i] <= indptr->ints[i + 1];
    if (!fits)
        mmf_tape__fail(
            tape, MMF_SHAPE, op,
            "adjacency.indptr must rise from 0 to the number of adjacency.indices in %lld "
            "integers, and adjacency.data, if given, have one real an edge",
            (long long)n + 1);
    return fits;
}

/* Edges off the diagonal, then the self-loops. @param last  n integers of scratch */
static int64_t collect(mmf_tape *tape, const mmf_tensor *indptr, const mmf_tensor *indices,
                       const mmf_tensor *values, double self_loop, int64_t *last, int64_t *to,
                       int64_t *from, mmf_real *weight)
{
    const int64_t n = indptr->count - 1;
    int64_t count = 0;
    memset(last, 0, (size_t)n * sizeof *last); /* 1 + the row that named this node last */
    for (int64_t i = 0; i < n; i++) {
        for (int64_t e = indptr->ints[i]; e < indptr->ints[i + 1]; e++) {
            const int64_t j = indices->ints[e];
            if (j < 0 || j >= n || last[j] == i + 1) {
                mmf_tape__fail(tape, MMF_ARG, op,
                               "row %lld names node %lld, which %s; expected each of %lld nodes at "
                               "most once",
                               (long long)i, (long long)j,
                               j < 0 || j >= n ? "does not exist" : "it named before",
                               (long long)n);
                return -1;
            }
            last[j] = i + 1;
            const mmf_real w = values ? values->data[e] : 1;
            if (i == j || (w >= 0 && w <= 0))
                continue;
            to[count] = i;
            from[count] = j;
            weight[count++] = w;
        }
    }
    for (int64_t i = 0; self_loop > 0 && i < n; i++) {
        to[count] = from[count] = i;
        weight[count++] = (mmf_real)self_loop;
    }
    return count;
}

mmf_edges mmf_edges_of_csr(mmf_tape *tape, const mmf_named *in, int64_t n_nodes, double self_loop)
{
    const mmf_tensor *const indptr = mmf_named_get(in, "adjacency.indptr");
    const mmf_tensor *const indices = mmf_named_get(in, "adjacency.indices");
    const mmf_tensor *const values = mmf_named_get(in, "adjacency.data");
    mmf_edges edges = {.n_nodes = n_nodes};
    if (!rows_fit(tape, indptr, indices, values, n_nodes))
        return edges;
    const size_t most = (size_t)(indices->count + n_nodes) + 1;
    int64_t *const last = mmf_tape__alloc(tape, ((size_t)n_nodes + 1) * sizeof *last);
    int64_t *const to = mmf_tape__alloc(tape, most * sizeof *to);
    int64_t *const from = mmf_tape__alloc(tape, most * sizeof *from);
    mmf_real *const weight = mmf_tape__reals(tape, (int64_t)most);
    if (!last || !to || !from || !weight)
        return edges;
    const int64_t count = collect(tape, indptr, indices, values, self_loop, last, to, from, weight);
    if (count < 0)
        return edges;
    edges.to = mmf_input_ints(tape, to, 1, &count);
    edges.from = mmf_input_ints(tape, from, 1, &count);
    edges.weight = mmf_input(tape, weight, 2, (int64_t[]){count, 1});
    return edges;
}

void mmf_edges_normalise(mmf_tape *tape, mmf_edges *edges, mmf_graph_norm norm)
{
    if (norm == MMF_GRAPH_NONE)
        return;
    mmf_tensor *const degree = mmf_scatter_add(tape, edges->weight, edges->to, edges->n_nodes);
    mmf_tensor *const scale = mmf_graph_degree_scale(tape, degree, norm);
    edges->weight = mmf_mul(tape, edges->weight, mmf_index_select(tape, scale, edges->to));
    if (norm == MMF_GRAPH_SYM)
        edges->weight = mmf_mul(tape, edges->weight, mmf_index_select(tape, scale, edges->from));
}

mmf_tensor *mmf_edges_sum(mmf_tape *tape, const mmf_edges *edges, mmf_tensor *nodes)
{
    mmf_tensor *const messages = mmf_index_select(tape, nodes, edges->from);
    return mmf_scatter_add(tape, mmf_mul(tape, messages, edges->weight), edges->to, edges->n_nodes);
}
