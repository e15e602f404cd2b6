"""Models that others published, one file each: their folders become ours. :mod:`scmodelforge.hub.importers.base`."""
