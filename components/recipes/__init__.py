"""Recipes: YAML files whose sections are the arguments of one callable each, read and checked without importing it."""
