"""Runs that predict connectivity of brain regions: settings in, a folder with scores, predictions and a model out.

A run's folder holds:

=================== ===================================================================================================
``config.yaml``     all settings
``record.json``     command, versions, data, seeds and times of the run
``folds/``          what is known of each fold that is done: ``seed0_fold1.json``, ``seed0_fold1.npz``
``scores.json``     a list of rows ``{"name", "kind": "model" or "baseline", "uses": "genes", "coordinates", "both" or
                    "nothing", "fold", "fold_name", "seed", "num_pairs", "inner": {metric: value}, "cross": {metric:
                    value}}``; ``num_pairs`` counts the inner pairs, a pair and its mirror image once;
                    ``inner`` is of pairs of two held-out regions, ``cross`` of pairs of one held-out region and one of
                    training; a value that is not defined is ``null``, as are all of a model that diverged
``scores.csv``      the same as a table
``metrics.json``    mean and standard deviation of each predictor over folds and seeds
``comparison.json`` a list of ``{"name", "against", "mean", "low", "high", "num_better", "num_folds"}``: Pearson r of
                    inner pairs of the model minus that of each baseline, on the same folds; ``low`` and ``high`` are
                    ``null`` with one fold
``predictions.npz`` ``true`` and ``predicted`` (R, R), ``regions`` (R,), and ``coords`` (R, 3) and ``network`` (R,) if
                    known. ``predicted`` is the model's mean over the seeds in which some fold held out both regions,
                    NaN where none did
``model/``          the model, fitted on all regions: ``model.json``, ``model.safetensors``, and ``inputs.json`` with
                    its genes and how they were scaled
``gene_pairs.csv``  ``gene_i``, ``gene_j``, ``attention``, the highest first; absent of models without attention
                    between regions
``sessions.jsonl``  when the run began, ended, was broken off, and what it warned of
``report.html``     the report, and ``*.png``, pictures
=================== ===================================================================================================
"""
