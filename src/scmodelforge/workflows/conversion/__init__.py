"""Parts of ``scmodelforge convert``: what is to be done, the buckets of the shuffle, the tables, what was done."""
