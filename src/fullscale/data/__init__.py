"""Reading, checking, planning and preparing scans."""
