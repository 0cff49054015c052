/*
 * kalman.h: the Kalman filter over several sensors, as operations on the tape: its gradient with
 * respect to measurements, noise and system comes with it.
 *
 * Letters: B samples, T ticks, n width of the state, k of a measurement.
 */
#ifndef MMFUSE_NN_KALMAN_H
#define MMFUSE_NN_KALMAN_H

#include "mmfuse/nn.h"

/** How the measurements of one tick are used. */
typedef enum mmf_kalman_update {
    MMF_KALMAN_SEQUENTIAL,  /**< one sensor after the other, in their order */
    MMF_KALMAN_STACKED,     /**< as one measurement with independent noise */
    MMF_KALMAN_INFORMATION, /**< by adding up inverse covariances */
} mmf_kalman_update;

#define MMF_KALMAN_UPDATE_OPTION                                                                   \
    {                                                                                              \
        "update", NULL, MMF_OPTION_TEXT, 0, 0, "sequential|stacked|information", "sequential",     \
            "what measurements of one tick do: one after the other, as one, or in information "    \
            "form"                                                                                 \
    }
/** The choice of that option. */
mmf_kalman_update mmf_kalman_update_of(const mmf_config *config);

typedef struct mmf_kalman_sensor {
    mmf_tensor *z;            /**< (B, T, k) */
    mmf_tensor *observation;  /**< H (k, n) */
    mmf_tensor *noise;        /**< R (k, k), or one a step (B, T, k, k) */
    mmf_tensor *mask;         /**< (B, T): 1 measured, 0 not; NULL: always */
    const mmf_real *measures; /**< (T): 0 at ticks that are left out for all; NULL: none is */
    mmf_tensor *nis;          /**< result: (B, T), y' S^-1 y, 0 where not measured */
} mmf_kalman_sensor;

typedef struct mmf_kalman {
    mmf_tensor *transition;               /**< F (n, n) */
    mmf_tensor *process_noise;            /**< Q (n, n) */
    mmf_tensor *control, *control_matrix; /**< (B, T, c), (n, c); NULL: none */
    mmf_tensor *state, *covariance;       /**< belief before the first tick: (B, n), (B, n, n) */
    mmf_kalman_sensor *sensors;
    size_t n_sensors;
    mmf_kalman_update update;
    bool joseph; /**< covariance as A P A' + K R K', which stays definite in single precision */
    double gate; /**< measurements whose chance to be that far off is lower are left out; 0: none */
} mmf_kalman;

/** Posteriors of every tick, and the state before its measurements. */
typedef struct mmf_kalman_result {
    mmf_tensor *state;      /**< (B, T, n) */
    mmf_tensor *covariance; /**< (B, T, n, n) */
    mmf_tensor *prediction; /**< (B, T, n) */
} mmf_kalman_result;

/**
 * Every tick: predict, then update with what is measured. A measurement that is not there is a term
 * left out, whatever its value.
 * @paper Kalman, Journal of Basic Engineering 1960; Joseph's form: Bucy and Joseph 1968
 */
mmf_kalman_result mmf_kalman_run(mmf_tape *tape, mmf_kalman *filter);

/** x with P(X <= x) = p for the chi-squared distribution of k degrees of freedom. */
double mmf_chi_squared_quantile(int64_t k, double p);

#endif
