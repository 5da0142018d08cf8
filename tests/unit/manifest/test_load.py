"""What a right manifest becomes."""

import pickle
from pathlib import Path

import pytest
from manifest_desk import *  # placeholder
