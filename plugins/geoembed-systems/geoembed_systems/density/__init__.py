"""Densities of the places of similar pictures, on the sphere and on the original's grid."""
