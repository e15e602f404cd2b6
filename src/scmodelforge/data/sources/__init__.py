"""Where cells come from: one module for each ``data.source``, imported when a source is asked for."""
