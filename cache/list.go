package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dbuild/engine"
)

// Item is one image for people and programs.
type Item struct {
	Kind      Kind      `json:"kind"`
	Digest    string    `json:"digest"` // of the tree
	Suite     string    `json:"suite"`
	Arch      string    `json:"arch"`
	Tag       string    `json:"tag"`
	Signer    string    `json:"signer"`
	Created   time.Time `json:"created"`
	LastUsed  time.Time `json:"last_used"` // zero: not known
	Size      int64     `json:"size"`      // bytes, with the layers below
	OwnSize   int64     `json:"own_size"`  // bytes of its own layer
	Engine    string    `json:"engine"`
	Statement string    `json:"statement"` // hash; what Remove takes
	// ArchiveDate is the newest date of the archives that its packages came from.
	ArchiveDate time.Time `json:"archive_date"`
	// Aside is true of a base that [Store.Rollback] took out of use.
	Aside bool `json:"aside,omitempty"`
	// Problem says why the image cannot be used; "" if it can.
	Problem string `json:"problem,omitempty"`

	parent string
}

// Parent is the hash of the statement that the image stands on; "" for a base.
func (it Item) Parent() string { return it.parent }

// List returns the images in force, of this engine, the oldest first. An image
// whose statement does not verify is listed with its Problem.
func (s *Store) List(ctx context.Context) ([]Item, error) {
	used, err := s.lastUsed(ctx)
	if err != nil {
		return nil, err
	}
	images, err := s.eng.Images(ctx)
	if err != nil {
		return nil, err
	}
	byID := make(map[engine.ImageID]engine.Image, len(images))
	for _, img := range images {
		byID[img.ID] = img
	}
	var items []Item
	var problems error
	err = s.withHead(ctx, func(h *head) error {
		items, problems = make([]Item, 0, len(h.Entries)), nil
		for _, c := range h.Entries {
			if c.Engine != s.engineName() {
				continue
			}
			it := Item{Kind: c.Kind, Engine: s.info.Kind, Statement: c.Statement, LastUsed: used[c.Statement], Aside: c.Aside, parent: c.Parent}
			if e, err := s.load(h, c.Statement); err != nil {
				it.Problem = err.Error()
				problems = errors.Join(problems, err)
			} else {
				it.describe(e, byID)
			}
			items = append(items, it)
		}
		return problems
	})
	if err != nil && problems == nil {
		return nil, err
	}
	slices.SortStableFunc(items, func(a, b Item) int { return a.Created.Compare(b.Created) })
	return items, nil
}

// describe fills in what statement and engine tell.
func (it *Item) describe(e *Entry, images map[engine.ImageID]engine.Image) {
	st := &e.Statement
	it.Digest, it.Suite, it.Arch, it.Signer, it.Created = string(st.Tree), st.Suite, st.Arch, st.Signer, st.Created
	for _, a := range st.Archive {
		if a.Date.After(it.ArchiveDate) {
			it.ArchiveDate = a.Date
		}
	}
	img, ok := images[engine.ImageID(st.Engine.Image)]
	if !ok {
		it.Problem = "the engine does not have it"
		return
	}
	it.Tag, it.OwnSize, it.Size = img.Config.Tag, img.Size, img.Size
	for _, below := range e.Chain {
		it.Size += images[engine.ImageID(below.Engine.Image)].Size
	}
}

// Touch notes that the image was used now, for [Store.Expire].
func (e *Entry) Touch(ctx context.Context) error {
	db := e.store.memo.db
	if db == nil {
		return nil
	}
	_, err := db.ExecContext(ctx, "INSERT INTO image_use (statement, used) VALUES (?, ?) ON CONFLICT (statement) DO UPDATE SET used = excluded.used",
		e.Hash, e.store.o.Now().Unix())
	if err != nil {
		return fmt.Errorf("note use of image: %w", err)
	}
	return nil
}

func (s *Store) lastUsed(ctx context.Context) (used map[string]time.Time, err error) {
	used = make(map[string]time.Time)
	if s.memo.db == nil {
		return used, nil
	}
	rows, err := s.memo.db.QueryContext(ctx, "SELECT statement, used FROM image_use")
	if err != nil {
		return nil, fmt.Errorf("read use of images: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var hash string
		var at int64
		if err := rows.Scan(&hash, &at); err != nil {
			return nil, fmt.Errorf("read use of images: %w", err)
		}
		used[hash] = time.Unix(at, 0).UTC()
	}
	return used, rows.Err()
}
