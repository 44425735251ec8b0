package docker

import (
	"context"
	"errors"
	"maps"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// labels are those of everything that this process makes, so that Reap finds
// it.
func (e *Engine) labels(more map[string]string) map[string]string {
	all := maps.Clone(more)
	if all == nil {
		all = map[string]string{}
	}
	all[labelState], all[labelOwner] = e.state, e.owner.id
	return all
}

// newVolume makes a volume that goes away with this process.
func (e *Engine) newVolume(ctx context.Context) (string, error) {
	made, err := e.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "dbuild-" + newID(), Labels: e.labels(nil)})
	if err != nil {
		return "", classify(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.volumes = append(e.volumes, made.Volume.Name)
	return made.Volume.Name, nil
}

// anonymous is a volume that the daemon removes with the container.
func (e *Engine) anonymous(target string) mount.Mount {
	return mount.Mount{Type: mount.TypeVolume, Target: target, VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: e.labels(nil)}}
}

// named is a volume that was made before.
func named(volume, target string, readOnly bool) mount.Mount {
	return mount.Mount{Type: mount.TypeVolume, Source: volume, Target: target, ReadOnly: readOnly, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}
}

// removeVolume removes a volume; one that is gone is fine.
func (e *Engine) removeVolume(ctx context.Context, name string) error {
	_, err := e.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return classify(err)
}

// reapVolumes removes the volumes of dead owners. One that a container still
// uses goes with it, or the next time.
func (e *Engine) reapVolumes(ctx context.Context, dead func(string) (bool, error)) (n int, err error) {
	list, err := e.api.VolumeList(ctx, client.VolumeListOptions{Filters: e.ours()})
	if err != nil {
		return 0, classify(err)
	}
	for _, v := range list.Items {
		gone, err := dead(v.Labels[labelOwner])
		if err != nil {
			return n, err
		}
		if !gone {
			continue
		}
		_, err = e.api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{})
		switch {
		case err == nil:
			n++
		case !errdefs.IsConflict(err) && !errdefs.IsNotFound(err):
			return n, classify(err)
		}
	}
	return n, nil
}

// dropVolumes removes what newVolume made.
func (e *Engine) dropVolumes(ctx context.Context) (err error) {
	e.mu.Lock()
	all := e.volumes
	e.volumes = nil
	e.mu.Unlock()
	for _, name := range all {
		err = errors.Join(err, e.removeVolume(ctx, name))
	}
	return err
}
