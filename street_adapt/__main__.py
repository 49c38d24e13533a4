import sys

from street_adapt.command import main

sys.exit(main())
