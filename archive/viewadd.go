package archive

import "fmt"

// Extend adds fetched files to a view of sts that a container may be using
// already: they appear in it at once, each whole. Only an engine that binds
// trees, rather than sending them, shows them. Files of other archive roots
// are left out, and those that are there already stay.
func (c *Copy) Extend(v *View, sts []*State, files []File) error {
	for n, st := range sts {
		if err := c.layFiles(v, n, st, files); err != nil {
			return fmt.Errorf("extend archive view: %w", err)
		}
	}
	return nil
}
