// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// FaultsClient speaks to a FaultsHandler.
type FaultsClient struct {
	HTTP *http.Client
	URL  string // before FaultsPath
}

// Add starts a fault and returns it with its id.
func (c FaultsClient) Add(ctx context.Context, f Fault) (added Fault, err error) {
	return added, c.do(ctx, http.MethodPost, "", f, &added)
}

// List returns those that were added and not removed.
func (c FaultsClient) List(ctx context.Context) (list FaultList, err error) {
	return list, c.do(ctx, http.MethodGet, "", nil, &list)
}

// Remove ends a fault.
func (c FaultsClient) Remove(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/"+url.PathEscape(id), nil, nil)
}

// Clear ends all.
func (c FaultsClient) Clear(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "", nil, nil)
}

func (c FaultsClient) do(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+FaultsPath+path, content)
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return fmt.Errorf("asking the simulator: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		reason, _ := io.ReadAll(response.Body)
		var refused struct{ Error string }
		if json.Unmarshal(reason, &refused) != nil || refused.Error == "" {
			return fmt.Errorf("%s answers %s: is it a sandbox's simulator?", c.URL, response.Status)
		}
		return fmt.Errorf("%s", strings.TrimPrefix(refused.Error, ErrFault.Error()+": "))
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
