#include "passthrough_handle.h"

#include <stdlib.h>
#include <unistd.h>

void handles_start(struct handles *handles)
{
    pthread_mutex_init(&handles->lock, NULL);
    handles->first = NULL;
}

static void free_handle(struct handle *handle)
{
    close(handle->fd);
    pthread_mutex_destroy(&handle->lock);
    free(handle);
}

void handles_finish(struct handles *handles)
{
    while (handles->first) {
        struct handle *handle = handles->first;
        handles->first = handle->next;
        free_handle(handle);
    }
    pthread_mutex_destroy(&handles->lock);
}

struct handle *handles_add(struct handles *handles, struct node *node, int fd)
{
    struct handle *handle = calloc(1, sizeof *handle);
    if (!handle) {
        close(fd);
        return NULL;
    }
    handle->node = node;
    handle->fd = fd;
    pthread_mutex_init(&handle->lock, NULL);
    pthread_mutex_lock(&handles->lock);
    handle->next = handles->first;
    if (handle->next)
        handle->next->previous = handle;
    handles->first = handle;
    pthread_mutex_unlock(&handles->lock);
    return handle;
}

void handles_remove(struct handles *handles, struct handle *handle)
{
    pthread_mutex_lock(&handles->lock);
    if (handle->previous)
        handle->previous->next = handle->next;
    else
        handles->first = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    pthread_mutex_unlock(&handles->lock);
    free_handle(handle);
}
