"""The page at `/`, its files below `/web`, and what it asks for beyond the public API, below `/view`."""

from __future__ import annotations

from fastapi import APIRouter

from . import files, questions

router = APIRouter(include_in_schema=False)
router.include_router(questions.router)
router.include_router(questions.open_router)
router.include_router(files.router)
files.mount_files(router)
