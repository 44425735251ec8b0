package cmd

import (
	"github.com/spf13/pflag"

	"dbuild/buildenv"
)

// cacheBudget is the flag that bounds what is kept for later builds.
type cacheBudget struct {
	cacheSize string
}

func (o *cacheBudget) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.cacheSize, "cache-size", "20G", "keep at most `SIZE` of base and deps images, those used last")
}

// expiry is what may be removed; an age belongs to it that is no setting.
func (o *cacheBudget) expiry() (buildenv.Expiry, error) {
	bytes, err := size(o.cacheSize)
	return buildenv.Expiry{CacheSize: bytes, Age: buildenv.DefaultAge}, err
}
