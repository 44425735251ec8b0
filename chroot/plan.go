package chroot

import "context"

// Variant is the name of the package set, as mmdebstrap calls it.
const Variant = "buildd"

// Recipe is the version of the way in which bases are made. It rises when the
// same packages give another tree; images of an older recipe are made again.
const Recipe = "1"

// Plan returns the packages that [Create] would install now, sorted by name,
// without making anything. It needs the network for indexes that are not there
// yet.
func Plan(ctx context.Context, o Options) ([]Package, error) {
	set, err := resolve(ctx, o.withDefaults())
	if err != nil {
		return nil, err
	}
	return set.list(), nil
}
